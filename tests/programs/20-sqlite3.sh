#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Does sqlite3 load, index, join and vacuum a million rows?
. "${BASH_SOURCE%/*}/lib.sh"
packages sqlite3
commands sqlite3
begin

cat >load.sql <<'END'
PRAGMA journal_mode = MEMORY;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -65536;
PRAGMA temp_store = MEMORY;
CREATE TABLE item(id INTEGER PRIMARY KEY, part INTEGER, name TEXT, body BLOB);
CREATE TABLE part(id INTEGER PRIMARY KEY, label TEXT);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
INSERT INTO item SELECT i, (i * 7919) % 1009, printf('%08x', (i * 2654435761) % 4294967296),
	CASE WHEN i % 1000 = 0 THEN zeroblob(i % 60000) ELSE zeroblob(i % 23) END FROM n;
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1008)
INSERT INTO part SELECT i, 'part ' || i FROM n;
COMMIT;
CREATE INDEX by_name ON item(name);
CREATE INDEX by_part ON item(part, length(body));
END

cat >ask.sql <<'END'
PRAGMA integrity_check;
SELECT count(*), sum(id), sum(length(body)) FROM item;
SELECT p.label, count(*), sum(i.id), max(i.name) FROM item i JOIN part p ON p.id = i.part
	WHERE i.id % 3 = 0 GROUP BY p.id ORDER BY 3 DESC, 1 LIMIT 5;
SELECT group_concat(name, '') FROM (SELECT name FROM item ORDER BY name DESC LIMIT 3);
SELECT length(group_concat(name, ',')) FROM item;
END

cat >shrink.sql <<'END'
PRAGMA journal_mode = MEMORY;
PRAGMA synchronous = OFF;
DELETE FROM item WHERE id % 4 = 0;
VACUUM;
PRAGMA quick_check;
SELECT count(*), sum(id) FROM item;
END

under_test sqlite3 -bail million.db <load.sql >load.out
under_test sqlite3 -bail million.db <ask.sql >ask.out
under_test sqlite3 -bail million.db <shrink.sql >shrink.out

expect_equal "integrity_check" ok "$(head -n 1 ask.out)"
expect_equal "rows, ids and bytes" "1000000|500000500000|40128925" "$(sed -n 2p ask.out)"
expect_equal "the join's first row" "part 877|331|165680064|fe658155" "$(sed -n 3p ask.out)"
expect_equal "the index's last names" ffffdfafffffd94affffd2e5 "$(sed -n 8p ask.out)"
expect_equal "all names in one" 8999999 "$(sed -n 9p ask.out)"
expect_equal "after VACUUM" "memory ok 750000|375000000000" "$(paste -sd ' ' shrink.out)"
