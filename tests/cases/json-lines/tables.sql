CREATE TABLE things (
    id INTEGER PRIMARY KEY,
    name VARCHAR(12),
    price NUMERIC(7, 2),
    big NUMERIC,
    ratio DOUBLE PRECISION,
    active BOOLEAN,
    day DATE,
    data JSON,
    note VARCHAR(40) DEFAULT 'kept'
);
