"""Between a door and the execution of a program: requests, callers, rates, responses that fit. No HTTP in it."""
