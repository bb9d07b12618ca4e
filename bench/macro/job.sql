-- SPDX-License-Identifier: MIT
-- The sqlite3 row: a table of size.n rows in memory, indexes, joins, updates, deletions, text.
.bail on
PRAGMA journal_mode = OFF;
CREATE TABLE item(id INTEGER PRIMARY KEY, class INTEGER, name TEXT, note TEXT, weight REAL);
INSERT INTO item
	WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < (SELECT n FROM size))
	SELECT i, (i * 7919) % 1009, printf('item-%08x', (i * 2654435761) % 4294967296),
		substr(hex(i * 1048583) || printf('%0*d', 20 + i % 90, i), 1, 20 + i % 90),
		(i % 997) / 7.0
	FROM c;
CREATE INDEX item_class ON item(class);
CREATE INDEX item_name ON item(name);
SELECT count(*), sum(class), round(sum(weight), 3), sum(length(note)) FROM item;
SELECT class, count(*), min(name), max(name) FROM item GROUP BY class ORDER BY 2 DESC, 1 LIMIT 5;
CREATE TABLE sum AS SELECT class, sum(weight) AS w, group_concat(name, ',') AS names
	FROM item GROUP BY class;
SELECT count(*), sum(length(names)), round(sum(w), 3) FROM sum;
UPDATE item SET note = upper(note) || name WHERE class % 3 = 0;
DELETE FROM item WHERE class % 5 = 1;
SELECT count(*), sum(length(note)) FROM item;
SELECT count(*), sum(length(a.name || b.names)) FROM item a JOIN sum b USING (class)
	WHERE a.weight > 100;
SELECT name FROM item ORDER BY note DESC, name LIMIT 3;
SELECT count(DISTINCT substr(note, 1, 6)) FROM item;
