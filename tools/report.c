/* SPDX-License-Identifier: MIT */
/*
 * hakmem report: one HTML page from statistics recorded over time (HAKMEM_STATS=jsonl:). It
 * needs no network and no script. A plot is an SVG that stretches with the page; its labels
 * are text beside it, which does not, so that a narrow screen can be read too.
 */
#include "tool.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SERIES_MOST 8
#define WIDTH 1000.0 /* of a plot, in its own units */
#define HEIGHT 300.0
#define TICKS 4
#define STRETCHES 150 /* of a plot of rates */
#define COLUMNS 120   /* of a heat map */
#define OCCUPANCY 9
#define MATRIX_NUMBERS 8 /* a matrix of more nodes has no numbers in its cells */
#define POLICIES_SHOWN 40 /* the last of them, in a table */

static const char *output = "-", *input, *log_file;
static pid_t wanted;

static error_t parse(int key, char *arg, struct argp_state *state)
{
	char *end;
	switch (key) {
	case 'o':
		output = arg;
		return 0;
	case 'l':
		log_file = arg;
		return 0;
	case 'p':
		wanted = (pid_t)strtol(arg, &end, 10);
		if (wanted <= 0 || *end)
			argp_error(state, "not a process id: `%s'", arg);
		return 0;
	case ARGP_KEY_ARG:
		return args_one(key, arg, state, &input);
	default:
		return args_missing(key, state, "a file of recorded statistics");
	}
}

/* ---- samples --------------------------------------------------------------------- */

static json_t **samples; /* of the process shown, in order of time */
static size_t count, others; /* lines of other processes */

static double number(const json_t *o, const char *key)
{
	return (double)json_integer_value(json_object_get(o, key));
}

static double seconds(size_t i)
{
	return (number(samples[i], "monotonic_ms") - number(samples[0], "monotonic_ms")) / 1000;
}

static int by_time(const void *a, const void *b)
{
	double x = number(*(json_t *const *)a, "monotonic_ms"), y = number(*(json_t *const *)b, "monotonic_ms");
	return x < y ? -1 : x > y;
}

/* The process with the most lines. */
static pid_t busiest(void)
{
	pid_t best = 0;
	size_t most = 0;
	for (size_t i = 0; i < count; i++) {
		size_t n = 0;
		for (size_t k = 0; k < count; k++)
			n += number(samples[k], "pid") == number(samples[i], "pid");
		if (n > most) {
			most = n;
			best = (pid_t)number(samples[i], "pid");
		}
		if (most > count / 2)
			break;
	}
	return best;
}

static void keep(pid_t pid)
{
	size_t kept = 0;
	for (size_t i = 0; i < count; i++) {
		if (number(samples[i], "pid") == pid)
			samples[kept++] = samples[i];
		else
			json_decref(samples[i]);
	}
	others = count - kept;
	count = kept;
}

static bool read_samples(void)
{
	char *line = NULL;
	size_t cap = 0, bad = 0;
	FILE *f = strcmp(input, "-") ? fopen(input, "re") : stdin;
	if (!f) {
		tool_warn("%s: %s", input, strerror(errno));
		return false;
	}
	while (getline(&line, &cap, f) > 0) {
		json_t *o = json_loads(line, 0, NULL);
		json_t **more = NULL;
		/* a line that was cut off, and what is not ours */
		if (json_is_object(o) && number(o, "version") == 1 && json_object_get(o, "monotonic_ms"))
			more = reallocarray(samples, count + 1, sizeof *samples);
		if (!more) {
			json_decref(o);
			bad++;
			continue;
		}
		samples = more;
		samples[count++] = o;
	}
	free(line);
	if (f != stdin)
		fclose(f);
	if (bad)
		tool_warn("%s: %zu lines are not statistics of hakmem and were left out", input, bad);
	keep(wanted ? wanted : busiest());
	if (count < 2) {
		tool_warn("%s: needs two lines of one process at least; record them with HAKMEM_STATS=jsonl:PATH:MS", input);
		return false;
	}
	qsort(samples, count, sizeof *samples, by_time);
	return true;
}

/* ---- the learner's log -------------------------------------------------------------- */

static json_t **policies; /* its lines that changed the policy, of the process shown */
static size_t policy_count;

static bool is_policy(const json_t *o)
{
	return json_is_object(o) && number(o, "version") == 1 && number(o, "changed") > 0 &&
	       number(o, "pid") == number(samples[0], "pid");
}

static bool read_log(void)
{
	char *line = NULL;
	size_t cap = 0;
	FILE *f = log_file ? fopen(log_file, "re") : NULL;
	if (!f) {
		if (log_file)
			tool_warn("%s: %s", log_file, strerror(errno));
		return !log_file;
	}
	while (getline(&line, &cap, f) > 0) {
		json_t *o = json_loads(line, 0, NULL);
		json_t **more = is_policy(o) ? reallocarray(policies, policy_count + 1, sizeof *policies) : NULL;
		if (!more) {
			json_decref(o);
			continue;
		}
		policies = more;
		policies[policy_count++] = o;
	}
	free(line);
	fclose(f);
	if (!policy_count)
		tool_warn("%s: the learner changed no policy of process %.0f in it", log_file, number(samples[0], "pid"));
	return true;
}

static double policy_ms(size_t i)
{
	return number(json_object_get(policies[i], "look"), "ms");
}

/* The last number of the row with the key; 0 if there is none. */
static double of_row(const json_t *table, json_int_t key)
{
	size_t i;
	json_t *row;
	json_array_foreach(table, i, row)
		if (json_integer_value(json_array_get(row, 0)) == key)
			return (double)json_integer_value(json_array_get(row, json_array_size(row) - 1));
	return 0;
}

/* `what` is a table of the decision, then a digit: the row's key. */
static double of_policy(size_t i, const char *what)
{
	size_t n = strlen(what) - 1;
	char table[16];
	snprintf(table, sizeof table, "%.*s", (int)n, what);
	return of_row(json_object_get(json_object_get(policies[i], "decision"), table), what[n] - '0');
}

/* Slabs of all classes that a heap may keep on a node; on which most. */
static double kept_slabs(size_t i)
{
	double most = 0;
	size_t k;
	json_t *row;
	for (json_int_t node = 0; node < 8; node++) {
		double sum = 0;
		json_array_foreach(json_object_get(json_object_get(policies[i], "decision"), "keep"), k, row)
			if (json_integer_value(json_array_get(row, 0)) == node)
				sum += (double)json_integer_value(json_array_get(row, 2));
		most = fmax(most, sum);
	}
	return most;
}

/* ---- figures of a sample ----------------------------------------------------------- */

static double over_nodes(const json_t *o, const char *key)
{
	double sum = 0;
	size_t i;
	json_t *n;
	json_array_foreach(json_object_get(o, "nodes"), i, n)
		sum += number(n, key);
	return sum;
}

static bool has_pages(const json_t *o)
{
	return json_object_get(o, "span_resident") != NULL;
}

/* What is plotted at sample i; NAN: nothing. `what` is a key, or of a kind below. */
typedef double figure_fn(size_t i, const char *what);

static double plain(size_t i, const char *key)
{
	return number(samples[i], key);
}

static double of_tiers(size_t i, const char *tier)
{
	return number(json_object_get(samples[i], "tiers"), tier);
}

static double huge_share(size_t i, const char *unused)
{
	const json_t *o = samples[i];
	double resident = over_nodes(o, "resident") + number(o, "span_resident");
	(void)unused;
	if (!has_pages(o) || resident <= 0)
		return NAN;
	return 100 * (over_nodes(o, "huge") + number(o, "span_huge")) / resident;
}

/* Of the policy that was in force then; NAN: of what the options said. */
static double in_force(size_t i, const char *what)
{
	double ms = number(samples[i], "monotonic_ms");
	size_t n = policy_count;
	while (n && policy_ms(n - 1) > ms)
		n--;
	return n ? of_policy(n - 1, what) : NAN;
}

/* A figure's growth a second at sample i, over a stretch that a plot still shows as one. */
static double rate(size_t i, const char *what, figure_fn *figure)
{
	size_t stretch = count / STRETCHES + 1, before = i > stretch ? i - stretch : 0;
	double span = seconds(i) - seconds(before);
	return span > 0 ? (figure(i, what) - figure(before, what)) / span : NAN;
}

static double plain_rate(size_t i, const char *key)
{
	return rate(i, key, plain);
}

static double of_stages(size_t i, const char *stage)
{
	return number(json_object_get(samples[i], "stages"), stage);
}

static double stage_rate(size_t i, const char *stage)
{
	return rate(i, stage, of_stages);
}

/* ---- plots ----------------------------------------------------------------------- */

enum unit { BYTES, BYTES_PER_SECOND, NUMBER, PER_SECOND, PERCENT };

struct plot {
	const char *title, *help;
	enum unit unit;
	bool stacked;
	figure_fn *figure;
	struct {
		const char *label, *what;
	} series[SERIES_MOST];
};

static FILE *out;

static void escaped(const char *s)
{
	for (; *s; s++)
		switch (*s) {
		case '<': fputs("&lt;", out); break;
		case '>': fputs("&gt;", out); break;
		case '&': fputs("&amp;", out); break;
		case '"': fputs("&quot;", out); break;
		default: fputc(*s, out);
		}
}

static const char *in_unit(double v, enum unit unit)
{
	static char text[4][48];
	static unsigned turn;
	char *s = text[turn++ % 4];
	switch (unit) {
	case BYTES:
		return text_bytes(v);
	case BYTES_PER_SECOND:
		snprintf(s, sizeof *text, "%s/s", text_bytes(v));
		return s;
	case PERCENT:
		snprintf(s, sizeof *text, "%.0f %%", v);
		return s;
	default:
		snprintf(s, sizeof *text, "%.3g%s%s", v >= 1e9 ? v / 1e9 : v >= 1e6 ? v / 1e6 : v >= 1e3 ? v / 1e3 : v,
			 v >= 1e9 ? "G" : v >= 1e6 ? "M" : v >= 1e3 ? "k" : "", unit == PER_SECOND ? "/s" : "");
		return s;
	}
}

/* The least round number not below v; of bytes, one whose multiples are round in larger units, too. */
static double round_up(double v, enum unit unit)
{
	static const double steps[] = { 1, 2, 2.5, 4, 5, 8, 10 };
	if (unit == PERCENT)
		return 25 * fmax(1, ceil(v / 25));
	if (v <= 0)
		return 1;
	if (unit == BYTES || unit == BYTES_PER_SECOND)
		return exp2(ceil(log2(v)));
	double scale = pow(10, floor(log10(v)));
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
		if (steps[i] * scale >= v)
			return steps[i] * scale;
	return 10 * scale;
}

static double x_of(size_t i)
{
	double all = seconds(count - 1);
	return all > 0 ? WIDTH * seconds(i) / all : 0;
}

/* Samples to plot: no more than one in half a unit of width. */
static size_t stride(void)
{
	return count / (size_t)(2 * WIDTH) + 1;
}

static double value(const struct plot *p, int series, size_t i)
{
	double v = p->figure(i, p->series[series].what);
	for (int k = 0; p->stacked && k < series; k++)
		v += p->figure(i, p->series[k].what);
	return v;
}

static void time_labels(void)
{
	double all = seconds(count - 1);
	fputs("<div class=x>", out);
	for (int i = 0; i <= TICKS; i++) {
		double t = all * i / TICKS;
		if (all >= 7200)
			fprintf(out, "<span>%.1f h</span>", t / 3600);
		else if (all >= 120)
			fprintf(out, "<span>%.1f min</span>", t / 60);
		else
			fprintf(out, "<span>%.*f s</span>", all < 4 ? 2 : all < 40 ? 1 : 0, t);
	}
	fputs("</div>", out);
}

static void caption(const char *title, const char *help)
{
	fputs("<figure><figcaption>", out);
	escaped(title);
	fputs("</figcaption><p>", out);
	escaped(help);
	fputs("</p>", out);
}

static void path_of(const struct plot *p, int series, double most)
{
	bool pen = false, any = false;
	double first_x = 0, last_x = 0;
	fprintf(out, "<path class=\"%s s%d\" d=\"", p->stacked ? "area" : "line", series);
	for (size_t i = 0; i < count; i += i + stride() < count || i == count - 1 ? stride() : count - 1 - i) {
		double v = value(p, series, i);
		if (isnan(v))
			continue;
		fprintf(out, "%c%.1f %.1f", pen ? 'L' : 'M', x_of(i), HEIGHT * (1 - v / most));
		first_x = any ? first_x : x_of(i);
		last_x = x_of(i);
		any = pen = true;
	}
	if (p->stacked && any)
		fprintf(out, "L%.1f %.1fL%.1f %.1fZ", last_x, HEIGHT, first_x, HEIGHT);
	fputs("\"><title>", out);
	escaped(p->series[series].label);
	fputs("</title></path>", out);
}

static void legend(const struct plot *p, int n)
{
	fputs("<ul>", out);
	for (int k = 0; k < n; k++) {
		double peak = 0;
		for (size_t i = 0; i < count; i++) {
			double v = p->figure(i, p->series[k].what);
			peak = v > peak ? v : peak;
		}
		fprintf(out, "<li class=s%d>", k);
		escaped(p->series[k].label);
		fprintf(out, " <small>peak %s</small></li>", in_unit(peak, p->unit));
	}
	fputs("</ul></figure>\n", out);
}

/* Nothing is drawn where there is nothing to see. */
static void draw(const struct plot *p)
{
	int n = 0;
	double most = 0;
	bool any = false;
	while (n < SERIES_MOST && p->series[n].label)
		n++;
	for (int k = 0; k < n; k++)
		for (size_t i = 0; i < count; i++) {
			double v = value(p, k, i);
			any |= !isnan(v) && v > 0;
			most = v > most ? v : most;
		}
	if (!any)
		return;
	most = TICKS * round_up(most / TICKS, p->unit);
	caption(p->title, p->help);
	fputs("<div class=plot><div class=y>", out);
	for (int i = TICKS; i >= 0; i--)
		fprintf(out, "<span>%s</span>", in_unit(most * i / TICKS, p->unit));
	fprintf(out, "</div><svg viewBox=\"0 0 %g %g\" preserveAspectRatio=none role=img>", WIDTH, HEIGHT);
	for (int i = 0; i <= TICKS; i++)
		fprintf(out, "<path class=grid d=\"M0 %gH%g\"/>", HEIGHT * i / TICKS, WIDTH);
	for (int k = n - 1; k >= 0; k--)
		path_of(p, k, most);
	fputs("</svg>", out);
	time_labels();
	fputs("</div>", out);
	legend(p, n);
}

/* ---- the heat map ---------------------------------------------------------------- */

/* The sum over a node's objects: it has one more for each policy of the user's. */
static double supers(size_t i, json_int_t node, int bin)
{
	double sum = 0;
	size_t k;
	json_t *n;
	json_array_foreach(json_object_get(samples[i], "nodes"), k, n)
		if (json_integer_value(json_object_get(n, "node")) == node)
			sum += (double)json_integer_value(json_array_get(json_object_get(n, "occupancy"), (size_t)bin));
	return sum;
}

/* The sample in force at column c of the map. */
static size_t sample_at(size_t c, size_t columns, size_t from)
{
	double t = seconds(count - 1) * ((double)c + 0.5) / (double)columns;
	while (from + 1 < count && seconds(from + 1) <= t)
		from++;
	return from;
}

static void heat_map(json_int_t node)
{
	size_t columns = count < COLUMNS ? count : COLUMNS;
	double most = 1, w = WIDTH / (double)columns, h = HEIGHT / OCCUPANCY;
	char title[64];
	for (size_t i = 0; i < count; i++)
		for (int b = 0; b < OCCUPANCY; b++)
			most = fmax(most, supers(i, node, b));
	snprintf(title, sizeof title, "How full are the SuperSlabs of node %" JSON_INTEGER_FORMAT, node);
	caption(title, "The darker, the more SuperSlabs (2 MiB). The top row is full ones, the bottom row those without a "
		       "live granule, which go back to the kernel. Rows between are what fragmentation holds.");
	fputs("<div class=plot><div class=\"y rows\"><span>full</span><span>half</span><span>empty</span></div>"
	      "<svg viewBox=\"0 0 1000 300\" preserveAspectRatio=none role=img>", out);
	for (size_t c = 0, i = 0; c < columns; c++) {
		i = sample_at(c, columns, i);
		for (int b = 0; b < OCCUPANCY; b++) {
			double v = supers(i, node, b);
			if (v > 0)
				fprintf(out, "<rect class=heat x=%.2f y=%.2f width=%.2f height=%.2f fill-opacity=%.2f><title>%.0f "
					     "SuperSlabs, %d to %d of 32 granules in use, at %.1f s</title></rect>",
					(double)c * w, HEIGHT - (b + 1) * h, w, h, 0.15 + 0.85 * sqrt(v / most), v,
					b ? b * 4 - 3 : 0, b * 4, seconds(i));
		}
	}
	fputs("</svg>", out);
	time_labels();
	fprintf(out, "</div><ul><li class=heat>darkest: %.0f SuperSlabs</li></ul></figure>\n", most);
}

/* Each node once, in the order of their numbers as far as the library has them so. */
static void heat_maps(void)
{
	const json_t *nodes = json_object_get(samples[count - 1], "nodes");
	json_int_t last = -1;
	size_t i;
	json_t *n;
	json_array_foreach(nodes, i, n) {
		json_int_t node = json_integer_value(json_object_get(n, "node"));
		if (node <= last)
			continue;
		heat_map(node);
		last = node;
	}
}

/* ---- frees between nodes ---------------------------------------------------------- */

static double freed(const json_t *matrix, size_t from, size_t to)
{
	return (double)json_integer_value(json_array_get(json_array_get(matrix, from), to));
}

/* A figure of number i of the last sample's nodes: the matrix has their order. */
static double last_node(size_t i, const char *key)
{
	return number(json_array_get(json_object_get(samples[count - 1], "nodes"), i), key);
}

/* The number stands in the cell while there is room for it, and in its title always. */
static void matrix_row(const json_t *matrix, size_t from, size_t n, double most)
{
	for (size_t to = 0; to < n; to++) {
		double v = freed(matrix, from, to), share = v > 0 ? 0.1 + 0.9 * sqrt(v / most) : 0;
		fprintf(out, "<span class=\"cell%s\" style=\"--share:%.2f\" title=\"%.0f blocks of node %.0f freed on node %.0f\">%s"
			     "</span>", share > 0.6 ? " dark" : "", share, v, last_node(to, "node"), last_node(from, "node"),
			n <= MATRIX_NUMBERS && v > 0 ? in_unit(v, NUMBER) : "");
	}
}

static void matrix_label(size_t i)
{
	fprintf(out, "<span>%.0f%s</span>", last_node(i, "node"), last_node(i, "policy") > 0 ? " p" : "");
}

static void remote_matrix(void)
{
	const json_t *matrix = json_object_get(samples[count - 1], "remote_matrix");
	size_t n = json_array_size(matrix);
	double most = 0;
	for (size_t i = 0; i < n * n; i++)
		most = fmax(most, freed(matrix, i / n, i % n));
	if (n < 2 || most <= 0)
		return;
	caption("Who frees whose blocks", "Blocks that threads on one node (rows) freed and heaps of another (columns) owned, since "
		"the start. On the diagonal is what threads of one node free for each other; off it, what goes from node to node. "
		"With a p: memory under a policy of the program's.");
	fprintf(out, "<div class=matrix style=\"grid-template-columns:auto repeat(%zu,1fr)\"><span></span>", n);
	for (size_t to = 0; to < n; to++)
		matrix_label(to);
	for (size_t from = 0; from < n; from++) {
		matrix_label(from);
		matrix_row(matrix, from, n, most);
	}
	fprintf(out, "</div><ul><li class=heat>darkest: %.0f blocks</li></ul></figure>\n", most);
}

/* ---- nodes ----------------------------------------------------------------------- */

/* `what` is a node's number. */
static double freed_of_node(size_t i, const char *what)
{
	json_int_t node = strtoll(what, NULL, 10);
	double sum = 0;
	size_t k;
	json_t *n;
	json_array_foreach(json_object_get(samples[i], "nodes"), k, n)
		if (json_integer_value(json_object_get(n, "node")) == node)
			sum += number(n, "remote_frees");
	return sum;
}

static double node_remote_rate(size_t i, const char *node)
{
	return rate(i, node, freed_of_node);
}

static void remote_frees(void)
{
	static char label[SERIES_MOST][32];
	struct plot p = { .title = "Blocks freed by other threads",
			  .help = "Blocks a second that came home to heaps of each node. Many of them mean that threads hand "
				  "memory to each other.",
			  .unit = PER_SECOND,
			  .figure = node_remote_rate };
	json_int_t last = -1;
	size_t i, series = 0;
	json_t *n;
	json_array_foreach(json_object_get(samples[count - 1], "nodes"), i, n) {
		json_int_t node = json_integer_value(json_object_get(n, "node"));
		if (node <= last || series == SERIES_MOST)
			continue;
		last = node;
		snprintf(label[series], sizeof *label, "node %" JSON_INTEGER_FORMAT, node);
		p.series[series].label = label[series];
		p.series[series].what = label[series] + strlen("node ");
		series++;
	}
	draw(&p);
}

/* ---- the learner ------------------------------------------------------------------ */

/* A column: what differs from the policy before stands out. */
static void policy_cell(size_t i, const char *what, const char *unit)
{
	double v = of_policy(i, what);
	bool new = i == 0 || of_policy(i - 1, what) != v;
	fprintf(out, new ? "<td><b>%.0f%s</b></td>" : "<td>%.0f%s</td>", v, v > 0 ? unit : "");
}

static void policy_table(void)
{
	size_t first = policy_count > POLICIES_SHOWN ? policy_count - POLICIES_SHOWN : 0;
	if (!policy_count)
		return;
	caption("What the learner changed", "Each change of the policy, and in bold what differs from the one before. DYN1 and DYN2 "
		"are the bytes of a block of a dynamic class. W_MAX is how large, of a request's own block, a block that it is lent "
		"may be. Kept are the EMPTY slabs that a heap may keep on one node.");
	if (first)
		fprintf(out, "<p>The first %zu of %zu are left out.</p>", first, policy_count);
	fputs("<div class=table><table><tr><th>at</th><th>DYN1</th><th>DYN2</th><th>W_MAX to 52 KiB</th><th>to 256 KiB</th>"
	      "<th>kept</th></tr>", out);
	for (size_t i = first; i < policy_count; i++) {
		fprintf(out, "<tr><td>%.1f s</td>", (policy_ms(i) - number(samples[0], "monotonic_ms")) / 1000);
		policy_cell(i, "dyn0", "");
		policy_cell(i, "dyn1", "");
		policy_cell(i, "wmax1", " %");
		policy_cell(i, "wmax2", " %");
		fprintf(out, i == first || kept_slabs(i) != kept_slabs(i - 1) ? "<td><b>%.0f</b></td></tr>" : "<td>%.0f</td></tr>",
			kept_slabs(i));
	}
	fputs("</table></div></figure>\n", out);
}

/* ---- the page -------------------------------------------------------------------- */

static const char style[] =
	":root{--bg:#fff;--fg:#1c2430;--dim:#5d6775;--grid:#dde2e8;--card:#f7f8fa;--c0:#1f5fbf;--c1:#d2691e;--c2:#2e8b57;"
	"--c3:#8a4fbf;--c4:#b8860b;--c5:#c2185b;--c6:#00838f;--c7:#607d8b;--heat:#1f5fbf}"
	"@media(prefers-color-scheme:dark){:root{--bg:#14181d;--fg:#e4e8ee;--dim:#98a3b1;--grid:#333c47;--card:#1b2128;"
	"--c0:#6ea8ff;--c1:#ff9a55;--c2:#5fd08e;--c3:#c198f0;--c4:#e5bd4b;--c5:#ff77a8;--c6:#4fd0dc;--c7:#a9bac4;"
	"--heat:#6ea8ff}}"
	"*{box-sizing:border-box}body{margin:0 auto;max-width:1400px;padding:1rem;background:var(--bg);color:var(--fg);"
	"font:16px/1.45 system-ui,sans-serif}h1{font-size:1.5rem;margin:.2rem 0}header p{color:var(--dim);margin:.2rem 0 1rem}"
	"dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.6rem;margin:0 0 1rem}"
	"dl div{background:var(--card);padding:.5rem .7rem;border-radius:.4rem}dt{color:var(--dim);font-size:.8rem}"
	"dd{margin:0;font-size:1.2rem;font-variant-numeric:tabular-nums}"
	"main{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,34rem),1fr));gap:1rem}"
	"figure{margin:0;background:var(--card);border-radius:.4rem;padding:.8rem;min-width:0}figcaption{font-weight:600}"
	"figure p{margin:.1rem 0 .6rem;color:var(--dim);font-size:.85rem}"
	".plot{display:grid;grid-template-columns:auto 1fr;column-gap:.4rem}"
	".y{display:flex;flex-direction:column;justify-content:space-between;text-align:right;margin:-.6em 0}"
	".y.rows{margin:0}.y,.x{font-size:.75rem;color:var(--dim);font-variant-numeric:tabular-nums;white-space:nowrap}"
	".x{grid-column:2;display:flex;justify-content:space-between;padding-top:.3rem}"
	"svg{width:100%;height:15rem;display:block}.grid{stroke:var(--grid);stroke-width:1;vector-effect:non-scaling-stroke}"
	".line{fill:none;stroke:var(--c);stroke-width:2;vector-effect:non-scaling-stroke;stroke-linejoin:round}"
	".area{fill:var(--c)}.heat{fill:var(--heat);--c:var(--heat)}"
	".matrix{display:grid;font-size:.75rem;color:var(--dim);text-align:center;align-items:center;"
	"gap:.2rem}"
	".cell{display:grid;place-items:center;aspect-ratio:2.5;min-width:0;position:relative;isolation:isolate;color:var(--fg);"
	"background:var(--bg)}.cell::before{content:'';position:absolute;inset:0;z-index:-1;background:var(--heat);"
	"opacity:var(--share)}.cell.dark{color:var(--bg)}"
	"ul{list-style:none;margin:.6rem 0 0;padding:0;display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.85rem}"
	"li::before{content:'';display:inline-block;width:.8em;height:.8em;border-radius:.15em;background:var(--c);"
	"margin-right:.4em}small{color:var(--dim)}"
	".table{overflow:auto;max-height:20rem}table{border-collapse:collapse;width:100%;font-size:.85rem;"
	"font-variant-numeric:tabular-nums}td,th{text-align:right;padding:.15rem .5rem;border-bottom:1px solid var(--grid);"
	"white-space:nowrap}th{color:var(--dim);font-weight:400;white-space:normal;vertical-align:bottom}"
	"@media(max-width:30rem){td,th{padding:.15rem .25rem}}"
	".s0{--c:var(--c0)}.s1{--c:var(--c1)}.s2{--c:var(--c2)}.s3{--c:var(--c3)}.s4{--c:var(--c4)}.s5{--c:var(--c5)}"
	".s6{--c:var(--c6)}.s7{--c:var(--c7)}footer{color:var(--dim);font-size:.85rem;margin-top:1rem}";

static void fact(const char *name, const char *text)
{
	fprintf(out, "<div><dt>%s</dt><dd>", name);
	escaped(text);
	fputs("</dd></div>", out);
}

static double peak(const char *key)
{
	double most = 0;
	for (size_t i = 0; i < count; i++)
		most = fmax(most, plain(i, key));
	return most;
}

static void facts(void)
{
	char text[64];
	double share = NAN;
	for (size_t i = count; i-- > 0 && isnan(share);)
		share = huge_share(i, NULL);
	fputs("<dl>", out);
	fact("peak resident", text_bytes(peak("rss")));
	fact("peak live", text_bytes(peak("live")));
	fact("resident at the end", text_bytes(plain(count - 1, "rss")));
	fact("live at the end", text_bytes(plain(count - 1, "live")));
	fact("given back", text_bytes(plain(count - 1, "released")));
	if (!isnan(share)) {
		snprintf(text, sizeof text, "%.0f %%", share);
		fact("on huge pages", text);
	}
	snprintf(text, sizeof text, "%.0f", plain(count - 1, "heaps"));
	fact("heaps", text);
	snprintf(text, sizeof text, "%.0f", plain(count - 1, "failed"));
	fact("failed requests", text);
	fputs("</dl>\n", out);
}

static void header(void)
{
	const json_t *last = samples[count - 1];
	time_t when = (time_t)(number(samples[0], "time_ms") / 1000);
	char date[64] = "";
	struct tm tm;
	if (localtime_r(&when, &tm))
		strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", &tm);
	fprintf(out, "<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width,"
		     "initial-scale=1\"><title>hakmem: process %.0f</title><style>%s</style>\n", number(last, "pid"), style);
	fprintf(out, "<header><h1>hakmem: process %.0f</h1><p>hakmem ", number(last, "pid"));
	const char *library = json_string_value(json_object_get(last, "library"));
	escaped(library ? library : "");
	fprintf(out, ", from %s on, %.1f s, %zu samples</p></header>\n", date, seconds(count - 1), count);
}

static void page(void)
{
	static const struct plot memory = {
		"Memory against live", "Resident counts all of the process, what is not hakmem's included. Resident far above "
		"live means free memory that has not gone back, or caches.", BYTES, false, plain,
		{ { "resident", "rss" }, { "mapped", "mapped" }, { "live", "live" }, { "cached", "cached" } }
	};
	static const struct plot tiers = {
		"Live by size", "Blocks that the program has, at the size of their class.", BYTES, true, of_tiers,
		{ { "to 2 KiB", "tiny" }, { "to 52 KiB", "pool" }, { "to 1 MiB", "l25" }, { "above", "huge" } }
	};
	static const struct plot huge = {
		"Share on huge pages", "Of hakmem's resident memory, own mappings and metadata left out. More means fewer page "
		"faults and TLB misses.", PERCENT, false, huge_share, { { "on huge pages", "" } }
	};
	static const struct plot back = {
		"Given back to the kernel", "Bytes a second. A saw that never rests means that the same memory comes straight "
		"back: a longer HAKMEM_DECAY_MS may help.", BYTES_PER_SECOND, false, plain_rate, { { "given back", "released" } }
	};
	static const struct plot stages = {
		"Where slabs came from", "Slabs a second that no slab of the heap's own could serve. In a steady state "
		"`new' and `unused' stand still.", PER_SECOND, false, stage_rate,
		{ { "near", "near" }, { "adopted", "adopted" }, { "empty", "empty" }, { "unused", "unused" }, { "new", "new" } }
	};
	static const struct plot work = {
		"Refills and drains", "Magazines that were found empty or full, a second. Many of both mean that magazines are too "
		"small (HAKMEM_MAGAZINE_KIB).", PER_SECOND, false, plain_rate,
		{ { "refills", "refills" }, { "drains", "drains" } }
	};
	static const struct plot dyn = {
		"Dynamic classes", "Bytes of a block of the two classes that the learner fits to the program. A step is a change; "
		"steps that never end mean sizes that never rest.", BYTES, false, in_force, { { "DYN1", "dyn0" }, { "DYN2", "dyn1" } }
	};
	static const struct plot wmax = {
		"Bounds on lending", "W_MAX: how large, of a request's own block, a block that it is lent may be. At 100 % nothing is lent.",
		PERCENT, false, in_force, { { "to 52 KiB", "wmax1" }, { "to 256 KiB", "wmax2" } }
	};
	header();
	facts();
	fputs("<main>\n", out);
	draw(&memory);
	draw(&tiers);
	heat_maps();
	draw(&huge);
	draw(&back);
	draw(&stages);
	draw(&work);
	remote_frees();
	remote_matrix();
	draw(&dyn);
	draw(&wmax);
	policy_table();
	fputs("</main>\n<footer>Every figure is explained in hakmem's doc/statistics.md.", out);
	if (others)
		fprintf(out, " The file has %zu lines of other processes; hakmem report --pid shows one of them.", others);
	fputs("</footer></html>\n", out);
}

int tool_report(int argc, char **argv)
{
	static const struct argp_option flags[] = {
		{ "output", 'o', "FILE", 0, "Write the page here instead of standard output", 0 },
		{ "log", 'l', "FILE", 0, "Show what the learner decided, from its log (HAKMEM_ACE_LOG)", 0 },
		{ "pid", 'p', "PID", 0, "Show this process, not the one with the most lines", 0 },
		{ 0 },
	};
	static const struct argp argp = { flags, parse, "FILE",
					  "Makes one HTML page with pictures from statistics recorded over time "
					  "(hakmem run --stats=jsonl:FILE:MS). It needs no network.", NULL, NULL, NULL };
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	if (!read_samples() || !read_log())
		return TOOL_FAILED;
	out = strcmp(output, "-") ? fopen(output, "we") : stdout;
	if (!out) {
		tool_warn("%s: %s", output, strerror(errno));
		return TOOL_FAILED;
	}
	page();
	if (fflush(out) || ferror(out) || (out != stdout && fclose(out))) {
		tool_warn("%s: %s", output, strerror(errno));
		return TOOL_FAILED;
	}
	return TOOL_OK;
}
