"""One file per kind of row; each function measures and yields rows, or says why it cannot."""
