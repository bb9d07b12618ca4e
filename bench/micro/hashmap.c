/* SPDX-License-Identifier: MIT */
/*
 * hashmap: what does a hash map of strings cost that is built, used and dropped, again and again?
 *
 * A chained map. An entry is three blocks: the entry, its key (5 to 40 characters) and its value (1
 * to 300 bytes). Keys come from a range twice as large as the map gets, so that inserts meet old
 * keys: then the value is reallocated. Of ten operations five insert or replace, three look up and
 * two erase. The table doubles by calloc. When the map has had its operations it is dropped.
 */
#include "bench.h"

static uint64_t keys = 50000, per_map = 500000, ops = 5000000;

static const struct bench_arg args[] = {
	{ "keys", &keys, 16, 1u << 26, "different keys" },
	{ "per-map", &per_map, 1, UINT64_MAX, "operations before the map is dropped" },
	{ "ops", &ops, 1, UINT64_MAX, "operations in all" },
};

#define KEY_MIN 5u
#define KEY_MAX 40u
#define VALUE_MAX 300u
#define FIRST_BUCKETS 16u

struct entry {
	struct entry *next;
	uint64_t hash;
	char *key;
	unsigned char *value; /* each byte is the low byte of its length */
	uint32_t length;
};

struct map {
	struct entry **bucket;
	uint64_t buckets, entries;
};

static void *must(void *p)
{
	if (!p)
		bench_die("out of memory: %s", strerror(errno));
	return bench_hide(p);
}

/* Key number n: its length and its letters follow from n alone. */
static uint32_t spell(uint32_t n, char *key)
{
	struct bench_rng rng = bench_seed(bench_seed_arg, n);
	uint32_t length = KEY_MIN + bench_below(&rng, KEY_MAX - KEY_MIN + 1);
	uint32_t i = 0;

	/* the number itself in front: two keys are never the same */
	for (uint32_t rest = n + 1; rest > 0 && i < length; rest /= 26)
		key[i++] = (char)('a' + rest % 26);
	for (uint64_t letters = bench_next(&rng); i < length; i++, letters >>= 2)
		key[i] = (char)('A' + letters % 4 + i % 20);
	key[length] = 0;
	return length;
}

static uint64_t hash_of(const char *key)
{
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */

	while (*key)
		h = (h ^ (unsigned char)*key++) * 0x100000001b3u;
	return h ^ h >> 29;
}

static struct entry **find(struct map *map, const char *key, uint64_t hash)
{
	struct entry **at = &map->bucket[hash & (map->buckets - 1)];

	while (*at && ((*at)->hash != hash || strcmp((*at)->key, key)))
		at = &(*at)->next;
	return at;
}

static void check(const struct entry *e)
{
	if (e->value[0] != (unsigned char)e->length ||
	    e->value[e->length - 1] != (unsigned char)e->length)
		bench_die("value of %s: overwritten", e->key);
}

static void free_entry(struct entry *e)
{
	check(e);
	free(e->key);
	free(e->value);
	free(e);
}

static void grow(struct map *map)
{
	uint64_t buckets = map->buckets ? 2 * map->buckets : FIRST_BUCKETS;
	struct entry **bucket = must(calloc(buckets, sizeof(*bucket)));

	for (uint64_t b = 0; b < map->buckets; b++)
		for (struct entry *e = map->bucket[b], *next; e; e = next) {
			next = e->next;
			e->next = bucket[e->hash & (buckets - 1)];
			bucket[e->hash & (buckets - 1)] = e;
		}
	free(map->bucket);
	map->bucket = bucket;
	map->buckets = buckets;
}

static void set(struct map *map, const char *key, uint32_t key_length, uint32_t length)
{
	uint64_t hash = hash_of(key);
	struct entry **at, *e;

	if (map->entries >= map->buckets)
		grow(map);
	at = find(map, key, hash);
	e = *at;
	if (!e) {
		e = must(malloc(sizeof(*e)));
		*e = (struct entry){ .hash = hash, .key = must(malloc(key_length + 1)) };
		memcpy(e->key, key, key_length + 1);
		*at = e;
		map->entries++;
	}
	e->value = must(realloc(e->value, length));
	e->length = length;
	memset(e->value, (int)length, length);
}

static void erase(struct map *map, const char *key)
{
	struct entry **at = find(map, key, hash_of(key)), *e = *at;

	if (!e)
		return;
	*at = e->next;
	free_entry(e);
	map->entries--;
}

static void drop(struct map *map)
{
	for (uint64_t b = 0; b < map->buckets; b++)
		for (struct entry *e = map->bucket[b], *next; e; e = next) {
			next = e->next;
			free_entry(e);
			map->entries--;
		}
	free(map->bucket);
	if (map->entries)
		bench_die("the map has lost %llu entries", (unsigned long long)map->entries);
	*map = (struct map){ NULL, 0, 0 };
}

int main(int argc, char **argv)
{
	struct bench_section section;
	struct map map = { NULL, 0, 0 };
	struct bench_rng rng;
	char key[KEY_MAX + 1];

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	rng = bench_seed(bench_seed_arg, UINT32_MAX); /* no key's stream */

	section = bench_begin();
	for (uint64_t i = 0; i < ops; i++) {
		uint32_t what = bench_below(&rng, 10), length;
		struct entry *e;

		length = spell(bench_below(&rng, keys), key);
		if (what < 5 || !map.buckets) {
			set(&map, key, length, 1 + bench_below(&rng, VALUE_MAX));
		} else if (what < 8) {
			e = *find(&map, key, hash_of(key));
			if (e)
				check(e);
		} else {
			erase(&map, key);
		}
		if ((i + 1) % per_map == 0)
			drop(&map);
	}
	drop(&map);
	section = bench_end(section);

	bench_report("hashmap", ops, section, NULL, 0);
	return 0;
}
