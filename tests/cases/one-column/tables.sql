CREATE TABLE words (word VARCHAR(5));
