CREATE TABLE things (
    id INTEGER PRIMARY KEY,
    name VARCHAR(10),
    price NUMERIC(7, 2),
    at TIMESTAMP,
    tags JSON
);
