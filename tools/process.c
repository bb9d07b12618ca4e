/* SPDX-License-Identifier: MIT */
/*
 * The statistics of another process, copied out of its memory (src/live.h). The process
 * takes no part: nothing is asked of it, it is not stopped, and no lock of its is taken. A
 * heap that is being changed while it is copied is copied again.
 */
#include "tool.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "live.h"
#include "topo/topo.h"

#define HEAP_TRIES 100
#define HEAPS_AT_A_TIME 64u
#define COUNTERS_MOST 64u
#define CLASSES_MOST 512u /* less than what process_vm_readv takes at once */
#define OCCUPANCY 9
#define NO_NODE UINT32_MAX
#define GRANULES 32u /* of a SuperSlab */

struct process {
	pid_t pid;
	struct hak_live live;
	struct hak_live_counter counters[3][COUNTERS_MOST]; /* process, heap, node */
	uint32_t *stride, *capacity;			    /* by class */
	char name[64];
};

/* ---- its memory ------------------------------------------------------------------ */

static bool copy(pid_t pid, uint64_t at, void *to, size_t bytes)
{
	struct iovec here = { to, bytes }, there = { (void *)(uintptr_t)at, bytes };
	return process_vm_readv(pid, &here, 1, &there, 1, 0) == (ssize_t)bytes;
}

static uint64_t word_at(const struct process *p, uint64_t at)
{
	uint64_t v = 0;
	copy(p->pid, at, &v, sizeof v);
	return v;
}

static uint32_t u32(const void *p, size_t offset)
{
	uint32_t v;
	memcpy(&v, (const char *)p + offset, sizeof v);
	return v;
}

static uint64_t u64(const void *p, size_t offset)
{
	uint64_t v;
	memcpy(&v, (const char *)p + offset, sizeof v);
	return v;
}

/* ---- finding the block ----------------------------------------------------------- */

/* The address of the live block that a note segment in memory names, or 0. */
static uint64_t block_in_notes(pid_t pid, uint64_t at, uint64_t bytes)
{
	char notes[4096];
	if (bytes > sizeof notes || !copy(pid, at, notes, bytes))
		return 0;
	for (uint64_t i = 0; i + sizeof(ElfW(Nhdr)) <= bytes;) {
		ElfW(Nhdr) h;
		memcpy(&h, notes + i, sizeof h);
		uint64_t name = i + sizeof h, desc = name + ((h.n_namesz + 3u) & ~3u);
		if (desc + h.n_descsz > bytes || desc < name)
			return 0;
		if (h.n_type == HAK_LIVE_NOTE && h.n_namesz == 7 && h.n_descsz == 8 && !memcmp(notes + name, "hakmem", 7))
			return at + desc + u64(notes, desc);
		i = desc + ((h.n_descsz + 3u) & ~3u);
	}
	return 0;
}

/* The same for an image whose ELF header is mapped at `start`. */
static uint64_t block_in_image(pid_t pid, uint64_t start)
{
	ElfW(Ehdr) e;
	ElfW(Phdr) ph[32];
	uint64_t bias = start;
	if (!copy(pid, start, &e, sizeof e) || memcmp(e.e_ident, ELFMAG, SELFMAG) || e.e_ident[EI_CLASS] != ELFCLASS64 ||
	    e.e_phentsize != sizeof *ph || e.e_phnum > sizeof ph / sizeof *ph ||
	    !copy(pid, start + e.e_phoff, ph, e.e_phnum * sizeof *ph))
		return 0;
	for (int i = 0; i < e.e_phnum; i++)
		if (ph[i].p_type == PT_LOAD && ph[i].p_offset == 0)
			bias = start - ph[i].p_vaddr;
	for (int i = 0; i < e.e_phnum; i++) {
		uint64_t at = ph[i].p_type == PT_NOTE ? block_in_notes(pid, bias + ph[i].p_vaddr, ph[i].p_memsz) : 0;
		if (at)
			return at;
	}
	return 0;
}

static FILE *open_proc(pid_t pid, const char *what)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, what);
	return fopen(path, "re");
}

/* Looks at every file of which the beginning is mapped. */
static uint64_t find_block(pid_t pid, int *why)
{
	char *line = NULL;
	size_t cap = 0;
	uint64_t block = 0;
	bool any = false;
	FILE *maps = open_proc(pid, "maps");
	*why = errno == ENOENT ? ESRCH : EPERM;
	if (!maps)
		return 0;
	errno = 0;
	while (!block && getline(&line, &cap, maps) > 0) {
		uint64_t start, offset;
		unsigned long inode;
		char prot[5];
		if (sscanf(line, "%" SCNx64 "-%*x %4s %" SCNx64 " %*s %lu", &start, prot, &offset, &inode) != 4)
			continue;
		any = true;
		if (offset == 0 && inode && prot[0] == 'r')
			block = block_in_image(pid, start);
	}
	free(line);
	/* the kernel lets maps be opened and shows nothing where it may not be read, or where
	 * there is nothing: a kernel thread, a zombie */
	char probe;
	if (!any)
		*why = copy(pid, 0, &probe, 1) || errno != EPERM ? ENOENT : EPERM;
	else if (!block)
		*why = errno == EPERM ? EPERM : ENOENT;
	fclose(maps);
	return block;
}

static bool read_counters(struct process *p, int which, const struct hak_live_counters *c)
{
	if (c->count > COUNTERS_MOST || !copy(p->pid, c->at, p->counters[which], c->count * sizeof **p->counters))
		return false;
	for (uint64_t i = 0; i < c->count; i++)
		p->counters[which][i].name[sizeof p->counters[which][i].name - 1] = 0;
	return true;
}

static bool read_classes(struct process *p)
{
	const struct hak_live *l = &p->live;
	size_t bytes = (size_t)l->class_count * l->class_bytes;
	char *classes = malloc(bytes);
	p->stride = calloc(l->class_count, sizeof *p->stride);
	p->capacity = calloc(l->class_count, sizeof *p->capacity);
	bool ok = classes && p->stride && p->capacity && copy(p->pid, l->classes_at, classes, bytes);
	for (uint32_t c = 0; ok && c < l->class_count; c++) {
		p->stride[c] = u32(classes, c * l->class_bytes + l->class_stride);
		p->capacity[c] = u32(classes, c * l->class_bytes + l->class_capacity);
	}
	free(classes);
	return ok;
}

/* Numbers beyond these are no layout of ours but a block that was overwritten. */
static bool plausible(const struct hak_live *l)
{
	return l->class_count <= CLASSES_MOST && l->class_bytes <= 4096 && l->pool_classes <= l->class_count &&
	       l->stage_count <= HAK_LIVE_STAGES && l->heap_bytes <= 1 << 20 && l->node_count <= 4096 &&
	       l->node_bytes <= 4096 && l->arena_head_bytes <= 1 << 20 && l->chunk_heaps && l->chunk_heaps <= 1 << 20;
}

static bool read_name(struct process *p)
{
	FILE *f = open_proc(p->pid, "comm");
	bool ok = f && fgets(p->name, sizeof p->name, f);
	if (f)
		fclose(f);
	p->name[strcspn(p->name, "\n")] = 0;
	return ok;
}

struct process *process_open(pid_t pid, int *why)
{
	struct process *p = calloc(1, sizeof *p);
	uint64_t block = find_block(pid, why);
	if (!p || !block) {
		free(p);
		return NULL;
	}
	p->pid = pid;
	*why = EPROTO;
	if (copy(pid, block, &p->live, sizeof p->live) && !memcmp(p->live.magic, HAK_LIVE_MAGIC, sizeof p->live.magic) &&
	    p->live.version == HAK_LIVE_VERSION && p->live.bytes >= sizeof p->live && plausible(&p->live) &&
	    read_counters(p, 0, &p->live.process) && read_counters(p, 1, &p->live.heap) &&
	    read_counters(p, 2, &p->live.node) && read_classes(p) && read_name(p))
		return p;
	process_close(p);
	return NULL;
}

void process_close(struct process *p)
{
	if (!p)
		return;
	free(p->stride);
	free(p->capacity);
	free(p);
}

const char *process_name(const struct process *p)
{
	return *p->name ? p->name : "?";
}

int process_refused(pid_t pid, int why)
{
	switch (why) {
	case ESRCH:
		tool_warn("there is no process %d", (int)pid);
		return TOOL_NOT_HERE;
	case EPERM:
		tool_warn("process %d may not be read: it needs the same user and no more rights than yours, or root "
			  "(CAP_SYS_PTRACE)", (int)pid);
		if (text_number("/proc/sys/kernel/yama/ptrace_scope") > 0)
			tool_warn("/proc/sys/kernel/yama/ptrace_scope is not 0, so only root may read processes that are "
				  "not children");
		return TOOL_NOT_ALLOWED;
	case EPROTO:
		tool_warn("process %d has another version of hakmem than this tool reads (live block version %u): use the "
			  "hakmem command of that version", (int)pid, HAK_LIVE_VERSION);
		return TOOL_NOT_HERE;
	default:
		tool_warn("process %d does not run on hakmem", (int)pid);
		return TOOL_NOT_HERE;
	}
}

/* ---- sums ------------------------------------------------------------------------ */

struct sums {
	uint64_t live, cached, tier[3], heaps;
	uint64_t counter[COUNTERS_MOST], stage[HAK_LIVE_STAGES];
	uint64_t *node_live, *node_remote;
	struct blocks *blocks; /* by node and class */
};

/* A heap's magazines may hold blocks of another's slabs, of the same node. */
struct blocks {
	uint64_t out, cached;
};

static int counter_number(const struct process *p, int which, uint64_t count, const char *name)
{
	for (uint64_t i = 0; i < count; i++)
		if (!strcmp(p->counters[which][i].name, name))
			return (int)i;
	return -1;
}

#define MAGAZINE_MOST 4095 /* entries: struct hak_heap_class */

/* How many of the magazine's n entries, those at the bottom, are empty: the reclaimer took what a sleeping
 * thread had there. */
static uint64_t gap(const struct process *p, uint64_t entries, uint64_t n)
{
	uint64_t low = 1;
	while (low < n) {
		uint64_t middle = (low + n) / 2;
		if (word_at(p, entries + 8 * middle))
			n = middle;
		else
			low = middle + 1;
	}
	return n - !!word_at(p, entries + 8 * n);
}

/* The heap's magazines: cached[], by class. The lowest entries are read in one go. */
static void count_cached(const struct process *p, const char *heap, uint64_t *cached)
{
	const struct hak_live *l = &p->live;
	struct iovec there[CLASSES_MOST];
	uint64_t lowest[CLASSES_MOST] = { 0 };
	uint32_t class[CLASSES_MOST], n = 0;
	for (uint32_t c = 0; c < l->class_count; c++) {
		uint64_t entries = u64(heap + l->heap_classes + (size_t)c * l->heap_class_bytes, l->class_entries);
		uint64_t top = u64(heap, l->heap_mags + (size_t)c * l->mag_bytes + l->mag_top);
		cached[c] = entries ? (top - entries) / 8 : 0;
		if (cached[c] > MAGAZINE_MOST) /* copied in the middle of a change */
			cached[c] = 0;
		if (!cached[c])
			continue;
		there[n] = (struct iovec){ (void *)(uintptr_t)(entries + 8), 8 };
		class[n++] = c;
	}
	struct iovec here = { lowest, n * sizeof *lowest };
	ssize_t got = n ? process_vm_readv(p->pid, &here, 1, there, n, 0) : 0;
	for (uint32_t i = 0; got > 0 && i < (uint32_t)((size_t)got / 8); i++)
		if (!lowest[i])
			cached[class[i]] -= gap(p, (uint64_t)(uintptr_t)there[i].iov_base - 8, cached[class[i]]);
}

static void add_heap(const struct process *p, struct sums *s, const char *heap)
{
	uint64_t cached[CLASSES_MOST];
	const struct hak_live *l = &p->live;
	uint32_t node = u32(heap, l->heap_node);
	int remote = counter_number(p, 1, l->heap.count, "remote_in");
	if (node >= l->node_count)
		return;
	count_cached(p, heap, cached);
	for (uint32_t c = 0; c < l->class_count; c++) {
		const char *k = heap + l->heap_classes + (size_t)c * l->heap_class_bytes;
		uint64_t out = (uint64_t)u32(k, l->class_slabs) * p->capacity[c] - u32(k, l->class_nfree);
		struct blocks *b = &s->blocks[(size_t)node * l->class_count + c];
		b->out += out;
		b->cached += cached[c];
	}
	for (uint64_t i = 0; i < l->heap.count; i++)
		s->counter[i] += u64(heap, p->counters[1][i].at);
	for (uint32_t i = 0; i < l->stage_count; i++)
		s->stage[i] += u64(heap, l->heap_stages + i * 8);
	if (remote >= 0)
		s->node_remote[node] += u64(heap, p->counters[1][remote].at);
}

static void add_blocks(const struct process *p, struct sums *s, uint32_t node, uint32_t c)
{
	const struct hak_live *l = &p->live;
	const struct blocks *b = &s->blocks[(size_t)node * l->class_count + c];
	s->cached += b->cached * p->stride[c];
	if (b->out <= b->cached)
		return;
	uint64_t live = (b->out - b->cached) * p->stride[c];
	s->live += live;
	s->tier[c < l->tiny_classes ? 0 : c < l->pool_classes ? 1 : 2] += live;
	s->node_live[node] += live;
}

/* A heap whose lock is taken is in the middle of a change: again, and in the end as it is. */
static void settle(const struct process *p, uint64_t at, char *heap)
{
	for (int i = 0; i < HEAP_TRIES && u32(heap, p->live.heap_lock); i++)
		if (!copy(p->pid, at, heap, p->live.heap_bytes))
			return;
}

/* Copies [first, first + count) of a chunk, many a call, and adds them. */
static void add_heaps(const struct process *p, struct sums *s, const uint64_t *at, uint32_t count)
{
	uint32_t bytes = p->live.heap_bytes;
	struct iovec there[HEAPS_AT_A_TIME];
	char *heaps = malloc((size_t)HEAPS_AT_A_TIME * bytes);
	for (uint32_t i = 0; heaps && i < count; i += HEAPS_AT_A_TIME) {
		uint32_t n = count - i < HEAPS_AT_A_TIME ? count - i : HEAPS_AT_A_TIME;
		for (uint32_t k = 0; k < n; k++)
			there[k] = (struct iovec){ (void *)(uintptr_t)at[i + k], bytes };
		struct iovec here = { heaps, (size_t)n * bytes };
		ssize_t got = process_vm_readv(p->pid, &here, 1, there, n, 0);
		for (uint32_t k = 0; got > 0 && k < (uint32_t)((size_t)got / bytes); k++) {
			settle(p, at[i + k], heaps + (size_t)k * bytes);
			add_heap(p, s, heaps + (size_t)k * bytes);
		}
	}
	free(heaps);
}

static void sum_heaps(const struct process *p, struct sums *s)
{
	const struct hak_live *l = &p->live;
	uint32_t count = 0;
	copy(p->pid, l->heap_count_at, &count, sizeof count);
	s->heaps = count;
	uint64_t *at = calloc(l->chunk_heaps, sizeof *at);
	s->blocks = calloc((size_t)l->node_count * l->class_count, sizeof *s->blocks);
	for (uint64_t chunk = 0; at && s->blocks && chunk <= count / l->chunk_heaps; chunk++) {
		uint64_t table = word_at(p, l->heap_chunks_at + chunk * 8);
		uint32_t first = chunk == 0; /* ids begin at 1 */
		uint32_t end = (uint32_t)(count - chunk * l->chunk_heaps + 1);
		if (end > l->chunk_heaps)
			end = l->chunk_heaps;
		if (table && copy(p->pid, table, at, end * sizeof *at))
			add_heaps(p, s, at + first, end - first);
	}
	for (uint32_t n = 0; s->blocks && n < l->node_count; n++)
		for (uint32_t c = 0; c < l->class_count; c++)
			add_blocks(p, s, n, c);
	free(s->blocks);
	free(at);
}

/* ---- nodes ----------------------------------------------------------------------- */

static void set(json_t *object, const char *key, uint64_t v)
{
	json_object_set_new(object, key, json_integer((json_int_t)v));
}

static uint64_t get(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

/* How full the mapped SuperSlabs are; the arithmetic is that of hak_node_occupancy. */
static void occupancy(const struct process *p, uint64_t arena, uint64_t supers[OCCUPANCY])
{
	const struct hak_live *l = &p->live;
	char *a = malloc(l->arena_head_bytes);
	memset(supers, 0, OCCUPANCY * sizeof *supers);
	while (a && arena && copy(p->pid, arena, a, l->arena_head_bytes)) {
		uint32_t end = u32(a, l->arena_small_end), start = u32(a, l->arena_huge_start);
		for (uint32_t s = 0; s < l->arena_supers; s++) {
			uint64_t word = u64(a, l->arena_super + (size_t)s * 8);
			uint32_t first = s * GRANULES, mapped = 0;
			if (first >= start || end >= first + GRANULES)
				mapped = UINT32_MAX;
			else if (end > first)
				mapped = (1u << (end - first)) - 1;
			uint32_t used = mapped & ~(uint32_t)(word | word >> 32);
			if (mapped)
				supers[((unsigned)__builtin_popcount(used) + 3) / 4]++;
		}
		arena = u64(a, l->arena_next);
	}
	free(a);
}

/* Base addresses of the arenas and whose they are: a node's number, or NO_NODE for spans. */
struct owner {
	uint64_t base;
	uint32_t node;
};

static size_t add_owners(const struct process *p, uint64_t arena, uint32_t node, struct owner **owners, size_t count)
{
	for (; arena; arena = word_at(p, arena + p->live.arena_next)) {
		struct owner *more = reallocarray(*owners, count + 1, sizeof **owners);
		if (!more)
			break;
		*owners = more;
		more[count++] = (struct owner){ word_at(p, arena + p->live.arena_base), node };
	}
	return count;
}

/* Resident and huge bytes of each owner's mappings, from smaps. */
static void add_pages(const struct process *p, const struct owner *owners, size_t count, uint64_t *rss, uint64_t *huge,
		      uint64_t *span_rss, uint64_t *span_huge)
{
	const struct owner *o = NULL;
	char *line = NULL;
	size_t cap = 0;
	FILE *smaps = open_proc(p->pid, "smaps");
	while (smaps && getline(&line, &cap, smaps) > 0) {
		uint64_t start, end, kib;
		/* a mapping's first line; "AnonHugePages" begins with a hexadecimal digit, too */
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2) {
			o = NULL;
			for (size_t i = 0; i < count; i++)
				if (owners[i].base == start >> 30 << 30)
					o = &owners[i];
		} else if (o && sscanf(line, "Rss: %" SCNu64, &kib) == 1) {
			*(o->node == NO_NODE ? span_rss : &rss[o->node]) += kib * 1024;
		} else if (o && sscanf(line, "AnonHugePages: %" SCNu64, &kib) == 1) {
			*(o->node == NO_NODE ? span_huge : &huge[o->node]) += kib * 1024;
		}
	}
	free(line);
	if (smaps)
		fclose(smaps);
}

static json_t *node_object(const struct process *p, uint32_t i, const char *node, const struct sums *s)
{
	uint64_t supers[OCCUPANCY], used = 0;
	uint64_t key = i < p->live.node_direct ? i : u64(node, p->live.node_key);
	json_t *o = json_object(), *list = json_array();
	set(o, "node", key & ((1u << p->live.node_mode_shift) - 1));
	set(o, "policy", key >> p->live.node_mode_shift & 15);
	for (uint64_t c = 0; c < p->live.node.count; c++)
		set(o, p->counters[2][c].name, u64(node, p->counters[2][c].at));
	set(o, "live", s->node_live[i]);
	set(o, "remote_frees", s->node_remote[i]);
	occupancy(p, u64(node, p->live.node_arenas), supers);
	for (int k = 0; k < OCCUPANCY; k++) {
		used += k ? supers[k] : 0;
		json_array_append_new(list, json_integer((json_int_t)supers[k]));
	}
	set(o, "superslabs", used);
	json_object_set_new(o, "occupancy", list);
	return o;
}

/* The pool has memory, or its threads have freed others': `frees` is its row. */
static bool in_use(const struct hak_live *l, const char *node, const uint64_t *frees)
{
	uint64_t sum = u64(node, l->node_arenas);
	for (uint32_t to = 0; to < l->node_count && !sum; to++)
		sum = frees[to];
	return sum;
}

/* A row of "remote_matrix", as the list of nodes is ordered. */
static json_t *row_of_frees(const struct hak_live *l, const char *nodes, const uint64_t *frees, uint32_t from)
{
	json_t *row = json_array();
	for (uint32_t to = 0; to < l->node_count; to++)
		if (in_use(l, nodes + (size_t)to * l->node_bytes, frees + (size_t)to * l->node_count))
			json_array_append_new(row, json_integer((json_int_t)frees[(size_t)from * l->node_count + to]));
	return row;
}

/* Adds "nodes" and "remote_matrix", and what the nodes have mapped and in runs to "slab_mapped" and "run_live". */
static bool add_nodes(const struct process *p, json_t *to, const struct sums *s, bool pages)
{
	const struct hak_live *l = &p->live;
	size_t bytes = (size_t)l->node_count * l->node_bytes, owners_count = 0;
	size_t matrix_bytes = (size_t)l->node_count * l->node_count * sizeof(uint64_t);
	char *nodes = malloc(bytes);
	uint64_t *frees = malloc(matrix_bytes);
	uint64_t *rss = calloc(l->node_count, sizeof *rss), *huge = calloc(l->node_count, sizeof *huge);
	uint64_t span_rss = 0, span_huge = 0, mapped = 0, runs = 0;
	struct owner *owners = NULL;
	json_t *list = json_array(), *matrix = json_array();
	bool ok = nodes && frees && rss && huge && copy(p->pid, l->nodes_at, nodes, bytes) &&
		  copy(p->pid, l->node_frees_at, frees, matrix_bytes);
	if (ok && pages) {
		for (uint32_t i = 0; i < l->node_count; i++)
			owners_count = add_owners(p, u64(nodes, (size_t)i * l->node_bytes + l->node_arenas), i, &owners,
						  owners_count);
		owners_count = add_owners(p, word_at(p, l->span_arenas_at), NO_NODE, &owners, owners_count);
		add_pages(p, owners, owners_count, rss, huge, &span_rss, &span_huge);
		set(to, "span_resident", span_rss);
		set(to, "span_huge", span_huge);
	}
	for (uint32_t i = 0; ok && i < l->node_count; i++) {
		const char *node = nodes + (size_t)i * l->node_bytes;
		if (!in_use(l, node, frees + (size_t)i * l->node_count))
			continue;
		json_array_append_new(matrix, row_of_frees(l, nodes, frees, i));
		json_t *o = node_object(p, i, node, s);
		mapped += get(o, "mapped");
		runs += get(o, "runs");
		if (pages) {
			set(o, "resident", rss[i]);
			set(o, "huge", huge[i]);
		}
		json_array_append_new(list, o);
	}
	json_object_set_new(to, "nodes", list);
	json_object_set_new(to, "remote_matrix", matrix);
	set(to, "slab_mapped", mapped);
	set(to, "run_live", runs);
	free(owners);
	free(rss);
	free(huge);
	free(frees);
	free(nodes);
	return ok;
}

/* ---- the whole ------------------------------------------------------------------- */

static uint64_t process_resident(pid_t pid)
{
	uint64_t pages = 0;
	FILE *f = open_proc(pid, "statm");
	if (f && fscanf(f, "%*u %" SCNu64, &pages) != 1)
		pages = 0;
	if (f)
		fclose(f);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t milliseconds(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool flag_at(const struct process *p, uint64_t at)
{
	uint8_t v = 0;
	return copy(p->pid, at, &v, sizeof v) && v;
}

static const char *topology_source(const struct process *p)
{
	static const char *const names[] = HAK_TOPO_SOURCE_NAMES;
	uint64_t topology = word_at(p, p->live.topology_at);
	uint32_t source = 0;
	if (!topology || !copy(p->pid, topology + p->live.topology_source, &source, sizeof source))
		return "builtin";
	return source < sizeof names / sizeof *names ? names[source] : "?";
}

/* As the library's own words for them are. */
static void add_engines(const struct process *p, json_t *to)
{
	const struct hak_live *l = &p->live;
	const char *reclaim = !word_at(p, l->options_at + l->option_reclaim) ? "off" :
			      flag_at(p, l->ring_at)			     ? "ring" :
			      flag_at(p, l->vector_at)			     ? "vector" :
									       "loop";
	json_t *o = json_object();
	json_object_set_new(o, "placement", json_string(get(to, "binds") ? "bind" : "first-touch"));
	json_object_set_new(o, "reclaim", json_string(reclaim));
	json_object_set_new(o, "topology", json_string(topology_source(p)));
	json_object_set_new(o, "guard", json_string(get(to, "guards") ? "pages" : "none"));
	set(o, "binds", get(to, "binds"));
	set(o, "bind_failures", get(to, "bind_failures"));
	json_object_set_new(to, "engines", o);
}

/* The process's own counters; a name's value for the sums, 0 if it has no such counter. */
static bool add_counters(const struct process *p, json_t *to)
{
	for (uint64_t i = 0; i < p->live.process.count; i++) {
		uint64_t v;
		if (!copy(p->pid, p->counters[0][i].at, &v, sizeof v))
			return false;
		set(to, p->counters[0][i].name, v);
	}
	return true;
}

json_t *process_read(struct process *p, bool pages)
{
	const struct hak_live *l = &p->live;
	struct sums s = { .node_live = calloc(l->node_count, 8), .node_remote = calloc(l->node_count, 8) };
	json_t *o = json_object(), *tiers = json_object(), *stages = json_object();
	set(o, "version", 1);
	json_object_set_new(o, "library", json_string(l->library));
	set(o, "pid", (uint64_t)p->pid);
	set(o, "time_ms", milliseconds(CLOCK_REALTIME));
	set(o, "monotonic_ms", milliseconds(CLOCK_MONOTONIC));
	set(o, "rss", process_resident(p->pid));
	bool ok = s.node_live && s.node_remote && add_counters(p, o);
	if (ok) {
		sum_heaps(p, &s);
		ok = add_nodes(p, o, &s, pages);
	}
	uint64_t huge = get(o, "span_live") + get(o, "own_mapped"), runs = get(o, "run_live");
	set(o, "mapped", get(o, "slab_mapped") + get(o, "span_mapped") + get(o, "own_mapped") + get(o, "own_kept") +
		get(o, "metadata"));
	set(o, "live", s.live + runs + huge);
	set(o, "cached", s.cached);
	set(o, "heaps", s.heaps);
	set(tiers, "tiny", s.tier[0]);
	set(tiers, "pool", s.tier[1]);
	set(tiers, "l25", s.tier[2] + runs);
	set(tiers, "huge", huge);
	json_object_set_new(o, "tiers", tiers);
	for (uint64_t i = 0; i < l->heap.count; i++)
		set(o, p->counters[1][i].name, s.counter[i]);
	set(o, "remote_frees", get(o, "remote_in"));
	for (uint32_t i = 0; i < l->stage_count; i++)
		set(stages, l->stage[i], s.stage[i]);
	json_object_set_new(o, "stages", stages);
	set(o, "fallbacks", 0); /* there is no such path */
	add_engines(p, o);
	free(s.node_live);
	free(s.node_remote);
	if (ok)
		return o;
	json_decref(o);
	return NULL;
}
