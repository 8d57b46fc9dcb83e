CREATE TABLE names (
    name TEXT,
    sign TEXT
);
