CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE moods (
    id INTEGER PRIMARY KEY,
    mood mood,
    span INTERVAL,
    address INET,
    tags TEXT[]
);
