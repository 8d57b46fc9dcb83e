CREATE TABLE codes (
    code CHAR(3) PRIMARY KEY,
    name VARCHAR(3)
);
