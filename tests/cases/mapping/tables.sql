CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    customer TEXT,
    country VARCHAR(2) NOT NULL,
    ordered_at TIMESTAMP WITH TIME ZONE,
    year INTEGER NOT NULL,
    each NUMERIC(8, 2),
    total NUMERIC(8, 2) NOT NULL,
    channel TEXT NOT NULL,
    note TEXT NOT NULL,
    source TEXT NOT NULL,
    record INTEGER NOT NULL,
    line INTEGER NOT NULL
);
