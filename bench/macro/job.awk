# SPDX-License-Identifier: MIT
# The gawk row: strings in an associative array that grow, are cut in fields, and are dropped. -v count=STRINGS
BEGIN {
	seed = 1
	for (i = 0; i < count; i++) {
		seed = (seed * 16807) % 2147483647
		key = "key-" seed % 60000
		list[key] = list[key] "," i
		if (length(list[key]) > 60) {
			fields += split(list[key], part, ",")
			delete list[key]
		}
	}
	for (key in list)
		left += length(list[key])
	print fields, left, length(list)
}
