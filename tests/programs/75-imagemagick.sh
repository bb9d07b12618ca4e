#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Does imagemagick compute the same pixels with its threads?
. "${BASH_SOURCE%/*}/lib.sh"
packages imagemagick
# Version 7 calls it magick and keeps the old name. By its path: other programs are called convert too.
commands /usr/bin/convert
begin

tool=/usr/bin/convert
! command -v magick >/dev/null || tool=magick

# -colorspace, -resize, -blur and -distort run in OpenMP threads.
under_test "$tool" -size 1200x900 plasma:fractal -seed 7 -depth 8 start.png
under_test "$tool" -size 1000x700 gradient:navy-orange -swirl 180 -depth 8 swirl.png
under_test "$tool" swirl.png -resize 1600x1100 -blur 0x3 -modulate 110,80 -rotate 17 \
	-distort Perspective '0,0 20,60 1500,0 1460,40 0,900 40,880 1500,900 1400,860' out.png
under_test "$tool" out.png -quality 85 out.jpg
under_test "$tool" swirl.png -resize '200x200!' -duplicate 7 -morph 3 frames.gif
under_test "$tool" out.jpg -format '%wx%h %#' info:out.jpg.info
expect_text "the first image" "^1200x900" <(under_test "$tool" start.png -format '%wx%h\n' info:)

for file in swirl.png out.png; do
	result "$file" "$(under_test "$tool" "$file" -format '%wx%h %#' info:)"
done
result "out.jpg" "$(cat out.jpg.info)"
result "frames.gif" "$(under_test "$tool" frames.gif -format '%wx%h %# ' info:)"
