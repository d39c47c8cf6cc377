-- New orders; some of the old ones are paid; and one that a slow transaction has written at 09:10 shows only now.
INSERT INTO events
SELECT n, TIMESTAMPTZ '2026-03-01 09:20:00Z' + n * INTERVAL '1 second', 'placed', (n * 37 % 5000) / 100.0
FROM generate_series(1001, 1200) AS n;
UPDATE events SET status = 'paid', changed_at = TIMESTAMPTZ '2026-03-01 09:45:00Z' WHERE id % 10 = 0 AND id <= 500;
INSERT INTO events VALUES (0, TIMESTAMPTZ '2026-03-01 09:10:00Z', 'placed', 12.50);
