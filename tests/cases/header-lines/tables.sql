CREATE TABLE sizes (
    id INTEGER PRIMARY KEY,
    wide TEXT,
    high TEXT
);
