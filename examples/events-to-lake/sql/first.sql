-- A thousand orders, one a second. All times are fixed, so that each run is the same.
INSERT INTO events
SELECT n, TIMESTAMPTZ '2026-03-01 09:00:00Z' + n * INTERVAL '1 second', 'placed', (n * 37 % 5000) / 100.0
FROM generate_series(1, 1000) AS n;
