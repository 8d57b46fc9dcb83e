"""Make the files of the sample shop, with everything that README.md lists as wrong in them.

    python sample_data/generate.py [FOLDER]

Writes next to itself, or into FOLDER. The same Python code and pyarrow version give the same bytes each time:
all chance comes from one seed. `expect.py` tells, without this module and without etl, what must become of
each record.
"""

from __future__ import annotations

import datetime as dt
import random
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

T = TypeVar("T")
Field = str | None

# fmt: off
GIVEN = (
    "Ana", "Zoë", "José", "Łucja", "Øyvind", "Ngọc", "Σοφία", "Aleksandra", "Noël", "Maïté", "Björn",
    "Şebnem", "Jürgen", "Iñaki", "Dáithí", "Renée", "Čeněk", "Õnne", "Gülşen", "Matilde", "Ronan", "Wiebke",
    "Tomás", "Ilse",
)
FAMILY = (
    "Almeida-Prado", "Lindqvåg", "Moreauval", "Žitňanský", "Ørsteding", "Nguyễnvale", "O'Brannagh",
    "Weißhaupt", "Ferreirinha", "Kováříková", "Van-der-Zee", "Çelikbaş", "Ångermark", "Peñalosa", "Dvořáček",
    "Smørdal", "Þorbergsson", "Mac-Aodhán",
)
STREETS = (
    "Rua das Flores", "Hauptstraße", "Calle Mayor", "Rue de l'Église", "Storgatan", "ul. Długa", "Mill Lane",
)
CITIES = {
    "PT": "Évora", "DE": "Köln", "ES": "León", "FR": "Nîmes", "SE": "Malmö", "PL": "Łódź", "IE": "Galway",
}
NOTES = (
    'asks for "the usual"',
    "leave it with the neighbour, not at the door",
    "first line\nsecond line",
    "prefers mornings\n\n(blank line above is part of the note)",
    "naïve façade, coöperation, 🙂",
)
THINGS = (
    "Cup", "Teapot", "Café filter", "Kettle", "Sugar bowl", 'Tray 12"', "Crème jug", "Spoon", "Tin, large",
    "Sieve",
)
COLOURS = ("white", "blue", "grün", "écru", "red", "grey")
STATUSES = ("paid", "paid", "paid", "shipped", "shipped", "open", "cancelled")

CUSTOMERS = 300
REFUSED_CUSTOMERS = {
    17: "no email", 58: "no email", 93: "no name", 120: "country too long", 151: "bad time",
    188: "bad boolean", 205: "text after quote", 233: "too many fields", 266: "not utf-8",
}
REPEATED_CUSTOMERS = {70: 12, 140: 33, 210: 33, 290: 201}  # behind the record of the key: the value again
TAKEN_EMAILS = {301: 44, 302: 199}  # a new customer with the e-mail of an older one

PRODUCTS = 60
REFUSED_PRODUCTS = (13, 27, 41)  # no name, price below 0, price too big for numeric(10,2)

FIRST_ORDER, ORDERS, ORDER_FILES = 1001, 2000, 10
PER_FILE = ORDERS // ORDER_FILES
REFUSED_ORDERS = {
    1033: "unknown customer", 1277: "unknown customer", 1702: "unknown customer", 2048: "unknown customer",
    2511: "unknown customer", 2950: "unknown customer",
    1071: "refused customer", 1305: "refused customer", 1544: "refused customer", 1733: "refused customer",
    1969: "refused customer", 2222: "refused customer", 2640: "refused customer", 2871: "refused customer",
    1099: "bad date", 1350: "bad date", 1444: "bad date", 1811: "bad date", 2133: "bad date",
    2420: "bad date", 2777: "bad date",
    1150: "no date", 2350: "no date", 1620: "no status", 1250: "no customer", 2720: "no customer",
    1405: "unknown status", 2605: "unknown status",
    1507: "shipping too big", 2207: "shipping too big", 1910: "shipping no number", 2810: "number too big",
    1655: "too few fields", 2455: "too many fields", 1860: "stray quote",
}
ORDER_FAULTS: dict[str, tuple[int, tuple[Field, ...]]] = {  # the field and what it holds, in turn
    "number too big": (0, ("99999999999",)),
    "unknown customer": (1, ("9001", "9002", "9003", "9004", "9005", "9006")),
    "refused customer": (1, ("17", "120", "205", "266", "301", "302", "93", "188")),
    "no customer": (1, (None,)),
    "bad date": (2, ("31/02/2024", "2024-07-14", "soon", "14.07.2024", "tomorrow", "29/02/2023", "1 May")),
    "no date": (2, (None,)),
    "no status": (3, (None,)),
    "unknown status": (3, ("lost",)),
    "shipping too big": (4, ("123456789.00",)),
    "shipping no number": (4, ("free",)),
}
REPEATED_ORDERS = (1020, 1130, 1240, 1460, 1530, 1690, 1888, 2090, 2310, 2550)  # twice in the same file
CHANGED_ORDER = 1203  # in orders-2 as paid and in orders-10 as cancelled: the first in natural order wins
CORRECTED_ORDER = 1444  # refused in orders-3, right in orders-9: written from there

REPEATED_LINES = tuple(range(1012, 2980, 98))  # orders whose first line comes twice
REFUSED_LINES = {
    1041: "unknown order", 1241: "unknown order", 1441: "unknown order", 1641: "unknown order",
    2041: "unknown order", 2241: "unknown order", 2441: "unknown order", 2841: "unknown order",
    1085: "unknown product", 1385: "unknown product", 1685: "unknown product", 1985: "unknown product",
    2285: "unknown product", 2585: "unknown product",
    1115: "refused product", 1415: "refused product", 1715: "refused product", 2015: "refused product",
    2315: "refused product",
    1066: "quantity 0", 1366: "quantity 0", 1666: "quantity 0", 1966: "quantity below 0",
    2266: "quantity below 0", 2566: "quantity below 0", 2866: "quantity below 0",
    1177: "quantity too big", 2177: "quantity too big", 1577: "price too big", 2577: "price too big",
    1222: "no quantity", 1822: "no quantity", 2422: "no price",
    1333: "quantity no integer", 2333: "quantity no integer", 1933: "price no number",
    1499: "too few fields", 2499: "text after quote",
}
LINE_FAULTS: dict[str, tuple[int, tuple[Field, ...]]] = {
    "unknown order": (0, tuple(str(number) for number in range(7001, 7009))),
    "unknown product": (2, tuple(str(number) for number in range(990, 996))),
    "refused product": (2, ("13", "27", "41", "61", "62")),
    "quantity 0": (3, ("0",)),
    "quantity below 0": (3, ("-1", "-2", "-3", "-4")),
    "quantity too big": (3, ("3000000000",)),
    "quantity no integer": (3, ("two", "1.5")),
    "no quantity": (3, (None,)),
    "price too big": (4, ("100000000.00",)),
    "price no number": (4, ("12,50",)),
    "no price": (4, (None,)),
}
# fmt: on


class Chance:
    """Seeded chance, made from `random()` alone: its sequence is the one that Python promises to keep."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def below(self, limit: int) -> int:
        return int(self._random.random() * limit)

    def pick(self, values: Sequence[T]) -> T:
        return values[self.below(len(values))]

    def happens(self, share: float) -> bool:
        return self._random.random() < share


def quoted(value: Field) -> str:
    """A CSV field: NULL is empty, the empty string is `""`, quotes only where needed."""
    if value is None:
        return ""
    if value == "" or any(c in value for c in ',"\r\n'):
        return '"' + value.replace('"', '""') + '"'
    return value


def record(*values: Field) -> str:
    return ",".join(quoted(value) for value in values)


def write_csv(path: Path, records: Iterable[str], newline: str = "\n", bom: bool = False, final: bool = True) -> None:
    """Write the records; a lone surrogate in the text stands for a byte that is not UTF-8."""
    text = newline.join(records) + (newline if final else "")
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + text.encode("utf-8", "surrogateescape"))


# Customers ------------------------------------------------------------------------------------------------


def customer(number: int, chance: Chance) -> list[Field]:
    given, family, country = chance.pick(GIVEN), chance.pick(FAMILY), chance.pick(tuple(CITIES))
    name = f'{given} "{family[:3]}" {family}' if chance.happens(0.05) else f"{given} {family}"
    separator = "\n" if chance.happens(0.3) else ", "
    address = f"{chance.pick(STREETS)} {1 + chance.below(180)}{separator}{CITIES[country]}"
    note = chance.pick(NOTES) if chance.happens(0.2) else "" if chance.happens(0.1) else None
    signed_up = dt.datetime(2021, 1, 1) + dt.timedelta(minutes=number * 3600 + chance.below(3000))
    return [
        str(number), name, f"customer{number:03}@shop.example", country, address, note,
        "true" if chance.happens(0.4) else "false", f"{signed_up:%d.%m.%Y %H:%M}",
    ]  # fmt: skip


def spoil_customer(fault: str, fields: list[Field]) -> str:
    """The record of a customer with exactly one thing wrong."""
    match fault:
        case "no email":
            fields[2] = None
        case "no name":
            fields[1] = None
        case "country too long":
            fields[3] = "PRT"
        case "bad time":
            fields[7] = "30.02.2022 10:15"
        case "bad boolean":
            fields[6] = "maybe"
        case "not utf-8":
            fields[1] = "Ren\udce9e Latin-Eins"
        case "too many fields":
            fields[4] = "Mill Lane 7"
            return record(*fields[:5]) + ", Galway," + record(*fields[5:])
        case "text after quote":
            return record(fields[0]) + ',"Ronan" O\'Brannagh,' + record(*fields[2:])
    return record(*fields)


def customer_records(chance: Chance) -> list[str]:
    people = {number: customer(number, chance) for number in range(1, CUSTOMERS + 1)}
    records = [record("Customer", "Name", "E-mail", "Country", "Address", "Note", "Newsletter", "Signed up")]
    for number, fields in people.items():
        fault = REFUSED_CUSTOMERS.get(number)
        records.append(spoil_customer(fault, list(fields)) if fault else record(*fields))
        if number in REPEATED_CUSTOMERS:
            records.append(moved(people[REPEATED_CUSTOMERS[number]]))
    for number, holder in TAKEN_EMAILS.items():
        fields = customer(number, chance)
        records.append(record(*fields[:2], people[holder][2], *fields[3:]))
    return [*records, ""]  # a blank line at the end is no record


def moved(fields: list[Field]) -> str:
    """The record of the same customer at another address."""
    return record(*fields[:4], "Moved, address unknown", *fields[5:])


# Products -------------------------------------------------------------------------------------------------


def product(number: int) -> dict[str, object]:
    thing = THINGS[number % len(THINGS)]
    colour = COLOURS[number // len(THINGS) % len(COLOURS)]
    return {
        "product_id": number,
        "sku": f"{thing[:3].upper()}-{number:04}",
        "name": f"{thing}, {colour}",
        "price": Decimal(195 + number * 137 % 9000) / 100,
        "active": number % 7 != 0,
        "added_on": dt.date(2020, 1, 1) + dt.timedelta(days=number * 11),
        "supplier": f"Supplier {number % 5}",
    }


def product_table() -> pa.Table:
    rows = [product(number) for number in range(1, PRODUCTS + 1)]
    no_name, below_zero, too_big = (rows[number - 1] for number in REFUSED_PRODUCTS)
    no_name["name"] = None
    below_zero["price"] = Decimal("-4.50")
    too_big["price"] = Decimal("1234567890.00")
    rows.append(product(8) | {"name": "Cup, the same number again"})
    rows += [product(number) | {"sku": rows[number - 41]["sku"]} for number in (61, 62)]
    schema = pa.schema(
        [
            ("product_id", pa.int32()),
            ("sku", pa.string()),
            ("name", pa.string()),
            ("price", pa.decimal128(12, 2)),
            ("active", pa.bool_()),
            ("added_on", pa.date32()),
            ("supplier", pa.string()),
        ]
    )
    return pa.Table.from_pylist(rows, schema=schema)


# Orders ---------------------------------------------------------------------------------------------------


def order(number: int, chance: Chance) -> list[Field]:
    customers = [n for n in range(1, CUSTOMERS + 1) if n not in REFUSED_CUSTOMERS]
    day = dt.date(2024, 1, 1) + dt.timedelta(days=(number - FIRST_ORDER) * 366 // ORDERS)
    gift, thanks = chance.happens(0.04), chance.happens(0.05)
    comment = 'gift,\nwith a "ribbon"' if gift else "danke schön" if thanks else None
    shipping = f"{chance.below(1500) / 100:.2f}" if chance.happens(0.8) else None
    return [
        str(number), str(chance.pick(customers)), f"{day:%d/%m/%Y}", chance.pick(STATUSES), shipping, comment,
        f"till {1 + chance.below(3)}",
    ]  # fmt: skip


def spoil_order(number: int, fields: list[Field]) -> str:
    """The record of an order with exactly one thing wrong."""
    fault = REFUSED_ORDERS[number]
    match fault:
        case "too few fields":
            return record(*fields[:4])
        case "too many fields":
            return record(*fields[:5]) + ",no, thanks," + record(fields[6])
        case "stray quote":
            return record(*fields[:5]) + ',a 12" tray,' + record(fields[6])
    place, values = ORDER_FAULTS[fault]
    fields[place] = values[rank(number, REFUSED_ORDERS) % len(values)]
    return record(*fields)


def rank(number: int, faults: dict[int, str]) -> int:
    """How many records before this one have the same fault."""
    return [other for other, fault in faults.items() if fault == faults[number]].index(number)


def order_files(chance: Chance) -> list[list[str]]:
    """The records of each orders file; it begins with the last two orders of the one before."""
    orders = {number: order(number, chance) for number in range(FIRST_ORDER, FIRST_ORDER + ORDERS)}
    orders[CHANGED_ORDER][3] = "paid"
    files = [[order_record(n, orders) for n in numbers_of_file(i)] for i in range(ORDER_FILES)]
    files[8].insert(50, record(*orders[CORRECTED_ORDER]))
    files[9].insert(50, record(*orders[CHANGED_ORDER][:3], "cancelled", *orders[CHANGED_ORDER][4:]))
    files[5].insert(100, "")  # a blank line is no record
    header = record("Order", "Customer", "Date", "Status", "Shipping", "Comment", "Exported by")
    return [[header, *records] for records in files]


def numbers_of_file(index: int) -> list[int]:
    first = FIRST_ORDER + index * PER_FILE
    overlap = [first - 2, first - 1] if index else []
    repeated = [n for n in REPEATED_ORDERS if first <= n < first + PER_FILE]
    return [*overlap, *range(first, first + PER_FILE), *repeated]


def order_record(number: int, orders: dict[int, list[Field]]) -> str:
    fields = orders[number]
    return spoil_order(number, list(fields)) if number in REFUSED_ORDERS else record(*fields)


# Order lines ----------------------------------------------------------------------------------------------


def line(number: int, place: int, chance: Chance) -> list[Field]:
    products = [n for n in range(1, PRODUCTS + 1) if n not in REFUSED_PRODUCTS]
    chosen = chance.pick(products)
    price = Decimal(195 + chosen * 137 % 9000) / 100
    return [str(number), str(place), str(chosen), str(1 + chance.below(6)), f"{price:.2f}"]


def spoil_line(number: int, fields: list[Field]) -> str:
    """The record of an order line with exactly one thing wrong."""
    fault = REFUSED_LINES[number]
    match fault:
        case "too few fields":
            return record(*fields[:3])
        case "text after quote":
            return record(*fields[:2]) + ',"5"x,' + record(*fields[3:])
    place, values = LINE_FAULTS[fault]
    fields[place] = values[rank(number, REFUSED_LINES) % len(values)]
    return record(*fields)


def line_records(chance: Chance) -> list[str]:
    records = [record("order_id", "line_no", "product_id", "quantity", "unit_price")]
    for number in range(FIRST_ORDER, FIRST_ORDER + ORDERS):
        fields = [line(number, place, chance) for place in range(1, 2 + chance.below(4))]
        first = spoil_line(number, list(fields[0])) if number in REFUSED_LINES else record(*fields[0])
        records += [first, *(record(*other) for other in fields[1:])]
        if number in REPEATED_LINES:
            records.append(record(*fields[0]))
    return records


# Orders with their lines in them ---------------------------------------------------------------------------

WEB_ORDERS = range(5001, 5121)
WEB_FAULTS = {5017: "quantity 0", 5042: "unknown product", 5063: "unknown customer", 5075: "no quantity", 5088: "price"}
WITHOUT_LINES = 5101
TWICE = 5030


def web_order(number: int, chance: Chance) -> dict[str, object]:
    customers = [n for n in range(1, CUSTOMERS + 1) if n not in REFUSED_CUSTOMERS]
    lines = [web_line(number, chance) for _ in range(2 + chance.below(3))]
    return {
        "order_id": number,
        "customer": {"id": chance.pick(customers), "channel": "web"},
        "ordered_on": dt.date(2025, 1, 1) + dt.timedelta(days=(number - WEB_ORDERS.start) // 4),
        "status": chance.pick(STATUSES),
        "delivery": {"cost": Decimal(chance.below(1500)) / 100, "note": None},
        "lines": lines if number != WITHOUT_LINES else None,
    }


def web_line(number: int, chance: Chance) -> dict[str, object]:
    _, _, product_id, quantity, price = line(number, 0, chance)
    return {"product": {"id": int(product_id or 0)}, "quantity": int(quantity or 0), "price": Decimal(price or 0)}


def spoil_web_order(fault: str, record: dict[str, object]) -> None:
    """Exactly one thing wrong; in a line, it is the second one."""
    lines = record["lines"]
    assert isinstance(lines, list)
    match fault:
        case "quantity 0":
            lines[1]["quantity"] = 0
        case "no quantity":
            lines[1]["quantity"] = None
        case "unknown product":
            lines[1]["product"] = {"id": 990}
        case "price":
            lines[1]["price"] = Decimal("100000000.00")
        case "unknown customer":
            record["customer"] = {"id": 9001, "channel": "web"}


def web_order_table(chance: Chance) -> pa.Table:
    rows = [web_order(number, chance) for number in WEB_ORDERS]
    for number, fault in WEB_FAULTS.items():
        spoil_web_order(fault, rows[number - WEB_ORDERS.start])
    rows.append(rows[TWICE - WEB_ORDERS.start])
    product = pa.struct([("id", pa.int32())])
    schema = pa.schema(
        [
            ("order_id", pa.int32()),
            ("customer", pa.struct([("id", pa.int32()), ("channel", pa.string())])),
            ("ordered_on", pa.date32()),
            ("status", pa.string()),
            ("delivery", pa.struct([("cost", pa.decimal128(10, 2)), ("note", pa.string())])),
            (
                "lines",
                pa.list_(pa.struct([("product", product), ("quantity", pa.int32()), ("price", pa.decimal128(12, 2))])),
            ),
        ]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def check_plan() -> None:
    """What is wrong must not meet: a record with two faults could be counted under either."""
    overlaps = {n for index in range(1, ORDER_FILES) for n in numbers_of_file(index)[:2]}
    repeated = {*REPEATED_ORDERS, CHANGED_ORDER, *overlaps}
    assert not repeated & REFUSED_ORDERS.keys()
    assert not REFUSED_ORDERS.keys() & (REFUSED_LINES.keys() | set(REPEATED_LINES))
    assert not set(REPEATED_LINES) & REFUSED_LINES.keys()


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    chance = Chance(20240229)
    check_plan()
    (folder / "orders").mkdir(parents=True, exist_ok=True)
    write_csv(folder / "customers.csv", customer_records(chance))
    pq.write_table(product_table(), folder / "products.parquet", row_group_size=25)
    for index, records in enumerate(order_files(chance), start=1):
        excel = index == 4  # a byte order mark and CRLF, as spreadsheets write them
        path = folder / "orders" / f"orders-{index}.csv"
        write_csv(path, records, newline="\r\n" if excel else "\n", bom=excel, final=index != 9)
    write_csv(folder / "order_lines.csv", line_records(chance))
    pq.write_table(web_order_table(Chance(20250101)), folder / "orders_with_lines.parquet")


if __name__ == "__main__":
    main()
