"""Create the sample shop's tables where they are missing.

    python sample_data/create_tables.py URL

URL is an SQLAlchemy URL such as sqlite:///quickstart.db or postgresql:///shop. Tables that are already there
stay as they are, with their rows. Needs SQLAlchemy alone (and psycopg for PostgreSQL).
"""

from __future__ import annotations

import sys

from sqlalchemy import (
    CHAR,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    false,
    inspect,
    true,
)

SHOP = MetaData()

Table(
    "customers",
    SHOP,
    Column("customer_id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(60), nullable=False),
    Column("email", String(80), nullable=False),
    Column("country", CHAR(2), nullable=False),
    Column("address", Text, nullable=False),
    Column("note", Text),
    Column("newsletter", Boolean, nullable=False, server_default=false()),
    Column("signed_up", DateTime, nullable=False),
    UniqueConstraint("email", name="customers_email_key"),
)
Table(
    "products",
    SHOP,
    Column("product_id", Integer, primary_key=True, autoincrement=False),
    Column("sku", String(12), nullable=False),
    Column("name", String(80), nullable=False),
    Column("price", Numeric(10, 2), nullable=False),
    Column("active", Boolean, nullable=False, server_default=true()),
    Column("added_on", Date, nullable=False),
    UniqueConstraint("sku", name="products_sku_key"),
    CheckConstraint("price >= 0", name="products_price_check"),
)
Table(
    "orders",
    SHOP,
    Column("order_id", Integer, primary_key=True, autoincrement=False),
    Column("customer_id", ForeignKey("customers.customer_id", name="orders_customer_fkey"), nullable=False),
    Column("ordered_on", Date, nullable=False),
    Column("status", String(10), nullable=False),
    Column("shipping", Numeric(10, 2)),
    Column("comment", Text),
    Column("channel", String(10), nullable=False, server_default="shop"),
    CheckConstraint("status IN ('open', 'paid', 'shipped', 'cancelled')", name="orders_status_check"),
)
Table(
    "order_lines",
    SHOP,
    Column("order_id", ForeignKey("orders.order_id", name="order_lines_order_fkey"), primary_key=True),
    Column("line_no", Integer, primary_key=True),
    Column("product_id", ForeignKey("products.product_id", name="order_lines_product_fkey"), nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("unit_price", Numeric(10, 2), nullable=False),
    CheckConstraint("quantity > 0", name="order_lines_quantity_check"),
)


def create_tables(url: str) -> str:
    """Create the tables that are missing and return a sentence about it, without the URL's password."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            missing = SHOP.tables.keys() - set(inspect(connection).get_table_names())
            SHOP.create_all(connection)
    finally:
        engine.dispose()
    where = engine.url.render_as_string(hide_password=True)
    return f"The shop's {len(SHOP.tables)} tables are in {where} ({len(missing)} of them new)."


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: create_tables.py URL")
    print(create_tables(sys.argv[1]))
