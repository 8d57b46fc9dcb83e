CREATE TABLE prices (
    id INTEGER PRIMARY KEY,
    price NUMERIC(6, 2),
    whole NUMERIC(3)
);
