CREATE TABLE sales (region TEXT, amount REAL);
INSERT INTO sales VALUES ('north', 10.5), ('south', 20), ('north', 4.5);
SELECT region, sum(amount) AS total FROM sales GROUP BY region ORDER BY total DESC;
