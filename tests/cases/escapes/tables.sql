CREATE TABLE notes (
    id INTEGER PRIMARY KEY,
    note TEXT
);
