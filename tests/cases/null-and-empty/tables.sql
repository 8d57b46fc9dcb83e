CREATE TABLE notes (
    id INTEGER PRIMARY KEY,
    title VARCHAR(10) NOT NULL,
    note TEXT
);
