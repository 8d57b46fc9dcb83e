CREATE TABLE days (
    id INTEGER PRIMARY KEY,
    day DATE,
    hour TIME,
    moment TIMESTAMP,
    instant TIMESTAMP WITH TIME ZONE
);
