#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Does ffmpeg encode and decode the same frames with its threads?
. "${BASH_SOURCE%/*}/lib.sh"
packages ffmpeg
commands ffmpeg ffprobe
begin

ffmpeg() {
	under_test ffmpeg -hide_banner -loglevel error -nostdin -y "$@"
}

# Lossless, so that what comes out is known from what goes in.
ffmpeg -f lavfi -i testsrc2=size=640x360:rate=25:duration=6 \
	-f lavfi -i sine=frequency=440:duration=6 \
	-c:v ffv1 -level 3 -slices 4 -threads 2 -pix_fmt yuv420p -c:a flac lossless.mkv
ffmpeg -f lavfi -i testsrc2=size=640x360:rate=25:duration=6 -pix_fmt yuv420p -f framemd5 source.md5
ffmpeg -threads 2 -i lossless.mkv -map 0:v -f framemd5 lossless.md5
# Only the digests: the two describe time in other units.
cmp <(sed '/^#/d; s/.*, *//' source.md5) <(sed '/^#/d; s/.*, *//' lossless.md5)
expect_equal "frames" 150 "$(sed '/^#/d' lossless.md5 | wc -l)"

ffmpeg -i lossless.mkv -filter_complex_threads 2 -vf 'scale=320:180,hflip,boxblur=2,hue=s=0' \
	-c:v mpeg4 -q:v 4 -threads 2 -bitexact -c:a aac -threads 2 packed.mp4
ffmpeg -threads 2 -i packed.mp4 -map 0:v -bitexact -f framemd5 packed.md5
result "packed.mp4" "$(sed '/^#/d; s/.*, *//' packed.md5 | digest -)"
result "streams" "$(under_test ffprobe -v error -show_entries stream=codec_name,width,height,nb_frames \
	-of csv=p=0 packed.mp4 | paste -sd ' ')"
