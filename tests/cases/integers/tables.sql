CREATE TABLE numbers (
    id INTEGER PRIMARY KEY,
    small SMALLINT,
    medium INTEGER,
    big BIGINT
);
