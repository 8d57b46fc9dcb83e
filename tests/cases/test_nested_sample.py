"""Orders with their lines in one Parquet file, by the config that comes with it."""

from __future__ import annotations

import pyarrow.parquet as pq

from tests.cases.test_sample_shop import folder, shop, url
from tests.commands import ROOT, call, query

__all__ = ["folder", "url"]  # the fixtures

# sample_data/README.md
REFUSED = {
    5017: ("check", "order_lines_quantity_check", None, "lines[2] (order_lines)"),
    5042: ("foreign_key", "order_lines_product_fkey", None, "lines[2] (order_lines)"),
    5063: ("foreign_key", "orders_customer_fkey", None, ""),
    5075: ("not_null", None, "lines.quantity", "lines[2] (order_lines)"),
    5088: ("range", None, "lines.unit_price", "lines[2] (order_lines)"),
}


def test_the_orders_of_the_sample_are_written_with_their_lines_or_refused_as_a_whole(folder, url):
    shop(folder, url, "load", "-q")
    config = folder / "configs" / "nested.toml"
    text = config.read_text(encoding="utf-8")
    assert 'url = "sqlite:///../quickstart.db"' in text
    config.write_text(text.replace("sqlite:///../quickstart.db", "${DATABASE_URL}"), encoding="utf-8")

    ended = call("load", config, "--json", DATABASE_URL=url)

    (load,) = ended.result["loads"]
    assert (ended.exit_code, load["read"], load["written"], load["duplicates"], load["rejected"]) == (3, 121, 115, 1, 5)
    records = pq.read_table(ROOT / "sample_data" / "orders_with_lines.parquet").to_pylist()
    written = {each["order_id"]: each for each in records if each["order_id"] not in REFUSED}
    lines = [
        (order, place, line["product"]["id"], line["quantity"], str(line["price"]))
        for order, each in sorted(written.items())
        for place, line in enumerate(each["lines"] or [], 1)
    ]
    found = query(url, "SELECT * FROM order_lines WHERE order_id > 5000 ORDER BY 1, 2")
    assert [(*row[:4], f"{float(row[4]):.2f}") for row in found] == lines
    assert load["children"]["lines"]["written"] == len(lines)
    orders = query(url, "SELECT order_id, customer_id, channel FROM orders WHERE order_id > 5000 ORDER BY 1")
    assert orders == [(order, each["customer"]["id"], "web") for order, each in sorted(written.items())]
    assert len(orders) == 115

    listed = call("rejects", config, "--format", "csv", DATABASE_URL=url)
    for order, (reason, constraint, column, place) in REFUSED.items():
        line = next(line for line in listed.output.splitlines() if f'""order_id"": ""{order}""' in line)
        assert f",{reason}," in line
        assert (constraint or "") in line
        assert (column or "") in line
        assert place in line
