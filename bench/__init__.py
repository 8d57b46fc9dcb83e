"""How fast etl is and how much memory it takes, beside the databases' own shells; `make bench` runs it."""
