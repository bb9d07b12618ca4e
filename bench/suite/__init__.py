# SPDX-License-Identifier: MIT
"""What bench/run is made of. Modules know only those above them:

    rows        the fixed list of rows: groups, commands, counts, figures
    allocators  who is compared, and where their libraries are
    measuring   one run of a program, checked; the machine
    real        redis, memcached and other whole programs
    figures     medians, paired ratios, means of groups
    markdown    the tables
    html        the same as one page with charts
"""
