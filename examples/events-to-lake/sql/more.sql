-- Forty orders after the last one.
INSERT INTO events
SELECT last.id + n, last.changed_at + n * INTERVAL '1 second', 'placed', (n * 37 % 5000) / 100.0
FROM (SELECT max(id) AS id, max(changed_at) AS changed_at FROM events) AS last, generate_series(1, 40) AS n;
