"""The primes below a limit, which is read from standard input when there is one."""

import sys

limit = int(sys.stdin.readline() or 30)
sieve = [True] * limit
for number in range(2, limit):
    if sieve[number]:
        print(number, end=" ")
        sieve[number * number :: number] = [False] * len(range(number * number, limit, number))
print()
