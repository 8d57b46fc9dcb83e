CREATE TABLE orders (
    order_id INTEGER PRIMARY KEY,
    ordered_on DATE,
    shipped_on DATE,
    paid_at TIMESTAMP,
    country CHAR(2) NOT NULL,
    priority SMALLINT NOT NULL,
    since DATE,
    status VARCHAR(10) DEFAULT 'open' NOT NULL,
    note TEXT
);
