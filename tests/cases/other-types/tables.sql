CREATE TABLE things (
    id INTEGER PRIMARY KEY,
    uuid UUID,
    document JSON,
    data BYTEA
);
