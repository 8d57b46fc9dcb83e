CREATE TABLE seats (
    row_no INTEGER,
    seat CHAR(1),
    guest VARCHAR(10),
    PRIMARY KEY (row_no, seat),
    CONSTRAINT seats_guest_key UNIQUE (guest)
);
