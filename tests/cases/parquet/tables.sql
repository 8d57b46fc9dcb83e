CREATE TABLE things (
    id INTEGER PRIMARY KEY,
    small SMALLINT,
    price NUMERIC(7, 2),
    ratio DOUBLE PRECISION,
    active BOOLEAN,
    day DATE,
    moment TIMESTAMP,
    instant TIMESTAMP WITH TIME ZONE,
    name VARCHAR(10),
    data BYTEA,
    tags JSON
);
