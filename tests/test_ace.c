/* SPDX-License-Identifier: MIT */
/*
 * Is the learner's arithmetic what it claims to be, does it leave alone what fits, and do blocks
 * stay what they are while classes change under them?
 */
#include "ace/learn.h"

#include <math.h>
#include <pthread.h>
#include <unistd.h>

#include "ace/ace.h"
#include "ace/bandit.h"
#include "ace/decide.h"
#include "ace/log.h"
#include "ace/share.h"
#include "front.h"
#include "init.h"
#include "options.h"
#include "sys/sys.h"

#include "suite.h"

#define MANY 16384u

static void *blocks[MANY];

/* ---- bandit ----------------------------------------------------------------------------- */

#define PLAYS 20000u

/* UCB1 as the paper has it, in floating point. */
static uint32_t reference(const double *sum, const uint32_t *plays, uint32_t arms, double all)
{
	uint32_t best = 0;
	double most = -1;
	for (uint32_t i = 0; i < arms; i++) {
		if (!plays[i])
			return i;
		double index = sum[i] / plays[i] + sqrt(2 * log(all) / plays[i]);
		if (index > most) {
			most = index;
			best = i;
		}
	}
	return best;
}

START_TEST(the_bandit_plays_as_the_paper_says_and_its_regret_is_within_the_bound)
{
	static const double means[HAK_BANDIT_ARMS] = { 0.30, 0.70, 0.55, 0.40 };
	struct hak_bandit b = { .arms = HAK_BANDIT_ARMS };
	double regret = 0, bound = 0, deltas = 0;
	uint32_t same = 0;
	uint64_t seed = 5;
	for (uint32_t n = 0; n < PLAYS; n++) {
		double sum[HAK_BANDIT_ARMS];
		for (uint32_t i = 0; i < HAK_BANDIT_ARMS; i++)
			sum[i] = (double)b.sum[i] / HAK_BANDIT_ONE;
		uint32_t arm = hak_bandit_choose(&b);
		same += arm == reference(sum, b.plays, b.arms, n);
		bool won = (double)(suite_random(&seed) >> 11) / (double)(1ull << 53) < means[arm];
		hak_bandit_reward(&b, arm, won ? HAK_BANDIT_ONE : 0);
		regret += means[1] - means[arm];
	}
	for (uint32_t i = 0; i < HAK_BANDIT_ARMS; i++) {
		double delta = means[1] - means[i];
		bound += delta > 0 ? 8 * log(PLAYS) / delta : 0;
		deltas += delta;
	}
	bound += (1 + M_PI * M_PI / 3) * deltas;
	printf("  regret %.0f of %u plays, bound %.0f; %u choices as the reference's\n", regret, PLAYS, bound, same);
	ck_assert_double_le(regret, bound);
	/* fixed point decides ties of the last digit otherwise */
	ck_assert_uint_ge(same, PLAYS - PLAYS / 100);
}
END_TEST

START_TEST(a_budget_is_shared_so_that_nobody_could_get_more_without_another_getting_less)
{
	uint64_t seed = 9, want[40];
	for (int round = 0; round < 2000; round++) {
		uint32_t n = (uint32_t)(suite_random(&seed) % 40 + 1);
		uint64_t budget = suite_random(&seed) % 100000, all = 0, given = 0, more = 0;
		for (uint32_t i = 0; i < n; i++)
			all += want[i] = suite_random(&seed) % 10000;
		uint64_t level = hak_share_level(want, n, budget);
		for (uint32_t i = 0; i < n; i++) {
			given += hak_min(want[i], level);
			more += hak_min(want[i], level == UINT64_MAX ? level : level + 1);
		}
		EXPECT(given <= budget, "%zu of a budget of %zu", (size_t)given, (size_t)budget);
		EXPECT(given == all || more > budget, "level %zu is too low", (size_t)level);
	}
}
END_TEST

/* ---- decisions -------------------------------------------------------------------------- */

static const struct hak_ace_config config = {
	.dwell_ms = 1000, .samples = 256, .dyn_gain = 3, .cap_min = 1, .cap_max = 8, .cap_step = 1, .wmax = { 100, 100, 100, 100 },
};

static void ask(struct hak_look *look, size_t bytes, uint32_t mib)
{
	unsigned class = hak_route_static_class(bytes);
	struct hak_size_step *s = &look->size[class][hak_size_step(class, bytes)];
	s->kib += mib << 10;
	s->most = (uint32_t)hak_max(s->most, bytes);
	look->class_kib[class] += mib << 10;
	look->live_kib += mib << 10;
	look->class_heaps[class] = 1;
	look->samples += mib * 16;
}

static struct hak_learner learner;
static struct hak_look look;

static void start(void)
{
	memset(&learner, 0, sizeof learner);
	hak_learner_start(&learner, &config);
}

START_TEST(a_size_that_fits_badly_gets_a_class_and_one_that_fits_does_not)
{
	static const struct {
		size_t bytes;
		bool worth;
	} sizes[] = { { 33296, true }, { 2100, true }, { 17408, true }, { 133120, true }, { 70000, true },
		      { 32768, false }, { 4096, false }, { 36864, false }, { 1000, false }, { 65536, false } };
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		start();
		memset(&look, 0, sizeof look);
		look.ms = 5000;
		look.slots = HAK_DYN_SLOTS;
		ask(&look, sizes[i].bytes, 128);
		bool changed = hak_learner_decide(&learner, &config, &look);
		EXPECT(changed == sizes[i].worth, "%zu bytes: %d", sizes[i].bytes, changed);
		EXPECT(!changed || (learner.plan.dyn[0] >= sizes[i].bytes && learner.plan.dyn[0] < sizes[i].bytes + 64),
		       "%zu bytes got %u", sizes[i].bytes, learner.plan.dyn[0]);
		struct hak_class c = hak_route_fit(learner.plan.dyn[0] ? learner.plan.dyn[0] : 16);
		EXPECT(!changed || (c.mask + 1) / c.capacity * 100 <= sizes[i].bytes * 106, "%zu bytes cost %u",
		       sizes[i].bytes, (c.mask + 1) / c.capacity);
	}
}
END_TEST

START_TEST(sizes_of_all_kinds_get_no_class_and_few_samples_change_nothing)
{
	start();
	memset(&look, 0, sizeof look);
	look.ms = 5000;
	look.slots = HAK_DYN_SLOTS;
	for (size_t n = 2048; n < HAK_SLAB_MAX; n += 61)
		ask(&look, n, 1);
	ck_assert(!hak_learner_decide(&learner, &config, &look));
	memset(&look, 0, sizeof look);
	look.ms = 9000;
	look.slots = HAK_DYN_SLOTS;
	ask(&look, 33296, 8); /* 128 samples */
	learner.samples = 0;
	ck_assert(!hak_learner_decide(&learner, &config, &look));
}
END_TEST

START_TEST(a_plan_changes_at_most_once_a_dwell_time_and_what_serves_stays)
{
	uint64_t changed_at = 0;
	uint32_t changes = 0;
	start();
	for (uint64_t ms = 5000; ms < 60000; ms += 100) {
		memset(&look, 0, sizeof look);
		look.ms = ms;
		look.slots = 2;
		/* two sizes that are worth it, and one that is worth about the same */
		ask(&look, 33296, 100 + (uint32_t)(ms / 100 % 7));
		ask(&look, 17408, 100 + (uint32_t)(ms / 100 % 5));
		ask(&look, 133120, 80 + (uint32_t)(ms / 100 % 11));
		if (hak_learner_decide(&learner, &config, &look)) {
			EXPECT(!changed_at || ms - changed_at >= config.dwell_ms, "changed after %zu ms", (size_t)(ms - changed_at));
			changed_at = ms;
			changes++;
		}
	}
	ck_assert_uint_le(changes, 2);
}
END_TEST

START_TEST(sizes_that_drift_get_no_class_and_one_that_stays_does)
{
	size_t bytes = 33296;
	start();
	learner.live_kib = 256u << 10; /* a heap that does not grow */
	for (uint64_t ms = 5000; ms < 15000; ms += 500) {
		memset(&look, 0, sizeof look);
		look.ms = ms;
		look.slots = HAK_DYN_SLOTS;
		/* what lives is replaced twice between looks */
		ask(&look, bytes, 512);
		look.live_kib = look.class_kib[hak_route_static_class(bytes)] = 256u << 10;
		bool changed = hak_learner_decide(&learner, &config, &look);
		EXPECT(changed == (ms == 11000), "%zu bytes after %zu ms: %u", bytes, (size_t)ms, learner.plan.dyn[0]);
		bytes += ms < 10500 ? 380 : 0; /* seen there at 10500, and again at 11000 */
	}
	ck_assert_uint_ge(learner.plan.dyn[0], bytes);
}
END_TEST

START_TEST(a_heap_that_grows_gets_classes_and_no_other_change)
{
	struct hak_ace_config learning = config;
	static const uint32_t mib[] = { 40, 90, 140, 190 };
	learning.wmax_learn = 1;
	learning.cap_budget_kib = 32768;
	for (unsigned t = 0; t < HAK_TIERS; t++)
		learning.target[t] = 95;
	start();
	for (unsigned i = 0; i < 4; i++) {
		memset(&look, 0, sizeof look);
		look.ms = 5000 + i * 1500;
		look.slots = HAK_DYN_SLOTS;
		ask(&look, 33296, mib[i] / 2);
		ask(&look, 133120, mib[i] / 2);
		/* all of it in new slabs */
		look.nodes = 1;
		look.node[0].live_mib = mib[i];
		for (unsigned n = 0; n < 2; n++) {
			unsigned class = hak_route_static_class(n ? 33296 : 133120), tier = hak_route_tier(class);
			look.tier_kib[tier] = look.tier_new_kib[tier] = 25u << 10;
			look.node[0].class[class] = (struct hak_look_class){ 25u << 10, 25u << 10 };
		}
		bool changed = hak_learner_decide(&learner, &learning, &look);
		EXPECT(changed == (i == 0), "look %u", i);
		ck_assert_uint_eq(learner.plan.nodes, 0);
		ck_assert_mem_eq(learner.plan.wmax, learning.wmax, sizeof learning.wmax);
	}
	ck_assert(learner.plan.dyn[0] && learner.plan.dyn[1]);
}
END_TEST

START_TEST(a_bound_that_the_user_chose_stays_until_another_is_published)
{
	struct hak_ace_config chosen = config;
	uint32_t tried = 0;
	chosen.wmax_learn = 1;
	chosen.wmax[HAK_TIER_POOL] = 120;
	chosen.wmax[HAK_TIER_L25] = 400;
	memset(&learner, 0, sizeof learner);
	hak_learner_start(&learner, &chosen);
	for (uint64_t ms = 5000; ms < 60000; ms += 1000) {
		struct hak_plan before = learner.plan;
		memset(&look, 0, sizeof look);
		look.ms = ms;
		look.samples = 4096;
		/* misses, and fewer of them with the bounds that were chosen */
		look.tier_kib[HAK_TIER_POOL] = look.tier_kib[HAK_TIER_L25] = 1 << 20;
		look.tier_new_kib[HAK_TIER_POOL] = before.wmax[HAK_TIER_POOL] == 120 ? 1 << 16 : 1 << 18;
		look.tier_new_kib[HAK_TIER_L25] = before.wmax[HAK_TIER_L25] == 400 ? 1 << 16 : 1 << 18;
		bool changed = hak_learner_decide(&learner, &chosen, &look);
		ck_assert(changed == (memcmp(&before, &learner.plan, sizeof before) != 0));
		tried += before.wmax[HAK_TIER_POOL] != 120;
		ck_assert_uint_ne(learner.plan.wmax[HAK_TIER_L25], 160); /* in whose place the 400 stand */
	}
	ck_assert_uint_gt(tried, 0);
	ck_assert_uint_lt(tried, 40);
}
END_TEST

/* ---- the log ---------------------------------------------------------------------------- */

/* Numbers with all their digits: the lines are whole. */
START_TEST(the_longest_line_of_the_log_has_room)
{
	static struct hak_ace_config longest;
	char path[] = "/tmp/test_ace.XXXXXX", *text = malloc(4 << 20);
	int fd = mkstemp(path), lines = 0, depth = 0;
	hak_option_strings[HAK_STR_ace_log] = path;
	hak_ace_log_start();
	memset(&longest, 0xff, sizeof longest);
	memset(&learner, 0xff, sizeof learner);
	memset(&look, 0xff, sizeof look);
	hak_ace_log_look(&learner, &longest, &look);
	hak_ace_log_decision(&learner, true);
	hak_ace_log_write();
	unlink(path);
	ssize_t n = read(fd, text, 4 << 20);
	close(fd);
	ck_assert_int_gt(n, 0);
	for (ssize_t i = 0; i < n; i++) {
		depth += (text[i] == '{' || text[i] == '[') - (text[i] == '}' || text[i] == ']');
		lines += text[i] == '\n';
		EXPECT(text[i] != '\n' || depth == 0, "a line ends within %d brackets", depth);
	}
	free(text);
	printf("  %zd bytes\n", n);
	ck_assert_int_eq(lines, 2);
	ck_assert_int_eq(depth, 0);
}
END_TEST

/* ---- classes that change under blocks ---------------------------------------------------- */

static void look_now(void)
{
	usleep(600000); /* a look is due, and so is a change */
	hak_learn_look();
}

static void fill(uint32_t n, size_t bytes)
{
	for (uint32_t i = 0; i < n; i++) {
		blocks[i] = hak_malloc(bytes);
		EXPECT(blocks[i], "no memory");
		memset(blocks[i], (int)(i & 0xff), 32);
		EXPECT(hak_usable_size(blocks[i]) >= bytes, "%zu bytes asked, %zu there", bytes, hak_usable_size(blocks[i]));
	}
}

static void check_and_free(uint32_t n, uint32_t step)
{
	for (uint32_t i = 0; i < n; i += step) {
		const unsigned char *p = blocks[i];
		EXPECT(!p || (p[0] == (i & 0xff) && p[31] == (i & 0xff)), "block %u was overwritten", i);
		hak_free(blocks[i]);
		blocks[i] = NULL;
	}
}

/* Growth wakes the reclaimer once a look: if that is too soon for the next one it must come again by itself. */
START_TEST(a_look_that_growth_asks_for_too_soon_is_not_lost)
{
	suite_quiet();
	hak_learn_start();
	ck_assert_int_eq(hak_learn_look(), 0); /* nothing to look at yet */
	hak_learn_note(64 << 20);
	ck_assert_int_eq(hak_learn_look(), 0); /* looks at once */
	ck_assert_int_eq(hak_learn_look(), 0); /* nothing grows */
	hak_learn_note(64 << 20);
	long wait = hak_learn_look();
	EXPECT(wait > 0 && wait <= 50, "%ld ms", wait);
	usleep((useconds_t)wait * 1000 + 1000);
	ck_assert_int_eq(hak_learn_look(), 0);
	ck_assert_int_eq(hak_learn_look(), 0); /* it was taken */
}
END_TEST

START_TEST(a_size_is_learnt_and_another_takes_its_place_while_its_blocks_live)
{
	suite_quiet();
	hak_option_values[HAK_OPT_ace_dwell_ms] = 10;
	hak_learn_start();
	fill(2600, 33296);
	hak_learn_look();
	/* once the static class has lent what it had free */
	void **last = blocks + 2600;
	for (uint32_t i = 0; i < 100; i++)
		last[i] = hak_malloc(33296);
	ck_assert_uint_le(hak_usable_size(last[99]), 33296 + 64);
	for (uint32_t i = 0; i < 100; i++)
		hak_free(last[i]);
	/* half of the old blocks stay; the others' place goes to sizes of another kind */
	check_and_free(2600, 2);
	void *old[1300];
	for (unsigned i = 0; i < 1300; i++)
		old[i] = blocks[2 * i + 1];
	for (int round = 0; round < 3; round++) {
		static const size_t sizes[] = { 9000, 133120, 70000 };
		uint32_t n = (uint32_t)(160 * ((size_t)1 << 20) / sizes[round]);
		n = (uint32_t)hak_min(n, MANY);
		fill(n, sizes[round]);
		look_now();
		check_and_free(n, 1);
		fill(n, sizes[round]);
		look_now();
		check_and_free(n, 1);
	}
	for (unsigned i = 0; i < 1300; i++) {
		EXPECT(((unsigned char *)old[i])[31] == ((2 * i + 1) & 0xff), "old block %u was overwritten", i);
		hak_free(old[i]);
	}
	hak_heap_empty(hak_heap_self);
	look_now();
	look_now();
	for (unsigned c = 0; c < HAK_CLASSES; c++)
		EXPECT(!hak_heap_self->classes[c].slabs, "class %u has %u slabs", c, hak_heap_self->classes[c].slabs);
}
END_TEST

/* What is in a magazine of an open class holds its size, be it lent. Returns how many are lent. */
static uint32_t check_magazines(void)
{
	struct hak_heap *h = hak_heap_self;
	uint32_t lent = 0;
	for (unsigned c = HAK_STATIC_CLASSES; c < HAK_CLASSES; c++)
		for (uint32_t i = hak_heap_cached(h, c); i > 0; i--) {
			unsigned owner = hak_tag_code(*hak_tag_of(h->classes[c].entries[i])) >> HAK_CODE_SHIFT;
			EXPECT(!hak_route_is_open(c) || hak_classes[owner].stride >= hak_classes[c].stride,
			       "a block of %u bytes in the magazine for %u", hak_classes[owner].stride, hak_classes[c].stride);
			lent += owner != c;
		}
	return lent;
}

START_TEST(a_class_with_lent_blocks_in_a_magazine_does_not_become_another)
{
	static const size_t sizes[] = { 9300, 16500, 33296, 70000 };
	static void *kept[16], *others[MANY];
	uint32_t lent = 0;
	suite_quiet();
	hak_option_values[HAK_OPT_ace_dwell_ms] = 10;
	hak_learn_start();
	for (unsigned round = 0; round < sizeof sizes / sizeof *sizes; round++) {
		uint32_t n = (uint32_t)hak_min(((size_t)80 << round / 2 << 20) / sizes[round], MANY);
		fill(n, sizes[round]);
		look_now();
		check_and_free(n, 1);
		/* and now no free, at which the thread would return what it was lent */
		for (unsigned i = 0; i < sizeof kept / sizeof *kept; i++)
			kept[i] = hak_malloc(sizes[round]);
		lent += check_magazines();
		look_now();
		look_now();
		fill(n, sizes[(round + 1) % 4]);
		look_now();
		check_magazines();
		memcpy(others, blocks, n * sizeof *others);
		fill(n, sizes[(round + 2) % 4]);
		look_now();
		check_magazines();
		check_and_free(n, 1);
		for (uint32_t i = 0; i < n; i++)
			hak_free(others[i]);
		for (unsigned i = 0; i < sizeof kept / sizeof *kept; i++)
			hak_free(kept[i]);
	}
	ck_assert_uint_gt(lent, 0);
}
END_TEST

START_TEST(a_size_that_the_user_chose_is_served_from_the_start_and_aligned_blocks_are_aligned)
{
	suite_quiet();
	hak_option_values[HAK_OPT_dyn1] = 33296;
	hak_option_values[HAK_OPT_learn] = 0;
	hak_learn_start();
	fill(1000, 33200);
	for (uint32_t i = 0; i < 1000; i++)
		EXPECT(hak_usable_size(blocks[i]) == 33296, "%zu", hak_usable_size(blocks[i]));
	for (size_t align = 32; align <= 65536; align *= 2) {
		void *p = hak_memalign(align, 33200);
		EXPECT((uintptr_t)p % align == 0, "%p is not aligned to %zu", p, align);
		hak_free(p);
	}
	check_and_free(1000, 1);
	ck_assert_uint_eq(hak_usable_size(hak_malloc(33297)), 36864);
}
END_TEST

static pthread_barrier_t turn;

/* Has a heap before there is a block of the class, and another that comes later, free every third. */
static void *guest(void *arg)
{
	uint32_t from = (uint32_t)(uintptr_t)arg;
	void *first = from ? NULL : hak_malloc(64);
	if (!from) {
		pthread_barrier_wait(&turn);
		pthread_barrier_wait(&turn);
	}
	for (uint32_t i = from; i < 1000; i += 3) {
		hak_free(blocks[i]);
		blocks[i] = NULL;
	}
	hak_free(first);
	/* blocks[0] and what came next went through our own magazine */
	unsigned class = hak_route_class(33296);
	return hak_heap_self->mags[class].stride == 33296 && hak_heap_cached(hak_heap_self, class) ? NULL : "no block of the class is cached";
}

START_TEST(guests_know_the_classes_of_their_home)
{
	pthread_t early, late;
	void *fault;
	suite_stay();
	suite_share(1);
	suite_quiet();
	hak_option_values[HAK_OPT_dyn1] = 33296;
	hak_option_values[HAK_OPT_learn] = 0;
	hak_learn_start();
	hak_free(hak_malloc(64));
	pthread_barrier_init(&turn, NULL, 2);
	ck_assert(!pthread_create(&early, NULL, guest, (void *)0));
	pthread_barrier_wait(&turn);
	fill(1000, 33296);
	pthread_barrier_wait(&turn);
	pthread_join(early, &fault);
	EXPECT(!fault, "%s", (const char *)fault);
	struct hak_heap *parked = hak_heap_acquire(0); /* so that the next thread gets a new one */
	ck_assert(!pthread_create(&late, NULL, guest, (void *)1));
	pthread_join(late, &fault);
	EXPECT(!fault, "%s", (const char *)fault);
	hak_heap_park(parked);
	ck_assert_uint_eq(hak_heap_count(), 3);
	check_and_free(1000, 1);
}
END_TEST

SUITE("ace", 60,
      CALM(guests_know_the_classes_of_their_home),
      CALM(the_bandit_plays_as_the_paper_says_and_its_regret_is_within_the_bound),
      CALM(a_budget_is_shared_so_that_nobody_could_get_more_without_another_getting_less),
      CALM(a_size_that_fits_badly_gets_a_class_and_one_that_fits_does_not),
      CALM(sizes_of_all_kinds_get_no_class_and_few_samples_change_nothing),
      CALM(a_plan_changes_at_most_once_a_dwell_time_and_what_serves_stays),
      CALM(sizes_that_drift_get_no_class_and_one_that_stays_does),
      CALM(a_heap_that_grows_gets_classes_and_no_other_change),
      CALM(a_bound_that_the_user_chose_stays_until_another_is_published),
      CALM(the_longest_line_of_the_log_has_room),
      CALM(a_look_that_growth_asks_for_too_soon_is_not_lost),
      CALM(a_size_is_learnt_and_another_takes_its_place_while_its_blocks_live),
      CALM(a_class_with_lent_blocks_in_a_magazine_does_not_become_another),
      CALM(a_size_that_the_user_chose_is_served_from_the_start_and_aligned_blocks_are_aligned))
