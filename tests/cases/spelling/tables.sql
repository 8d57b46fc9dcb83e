CREATE TABLE sales (
    id INTEGER PRIMARY KEY,
    price NUMERIC(10, 2),
    pieces INTEGER,
    weight DOUBLE PRECISION,
    paid BOOLEAN,
    note TEXT
);
