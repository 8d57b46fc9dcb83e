CREATE TABLE customers (
    id INTEGER PRIMARY KEY,
    email VARCHAR(20) NOT NULL,
    CONSTRAINT customers_email_key UNIQUE (email)
);
CREATE TABLE staff (
    id INTEGER PRIMARY KEY,
    boss INTEGER,
    CONSTRAINT staff_boss_fkey FOREIGN KEY (boss) REFERENCES staff (id)
);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    customer INTEGER NOT NULL,
    clerk INTEGER,
    quantity INTEGER,
    CONSTRAINT orders_customer_fkey FOREIGN KEY (customer) REFERENCES customers (id),
    CONSTRAINT orders_clerk_fkey FOREIGN KEY (clerk) REFERENCES staff (id),
    CONSTRAINT orders_quantity_check CHECK (quantity > 0)
);
