#!/bin/sh
#SBATCH --job-name=primes
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=64M
#SBATCH --time=00:10:00
#
# Counts the primes from FIRST to LAST by trial division:
#
#   primes.sh [FIRST [LAST]]        default: 100000000 to 100029999, about half a second
#
# The last line of the output is the result, which anyone can check: there are 168 primes from 1 to
# 1000, 1229 to 10000, 9592 to 100000, 78498 to 1000000. The range is shared among as many processes
# as the job has cores. Needs nothing but a POSIX shell and awk.
set -eu

first=${1:-100000000}
last=${2:-100029999}
parts=${P2PFED_CORES:-1}

count() {  # part: prints how many primes there are in that part of the range
    awk -v first="$first" -v last="$last" -v part="$1" -v parts="$parts" '
        function is_prime(n,  d) {
            if (n < 4) return n > 1
            if (n % 2 == 0 || n % 3 == 0) return 0
            for (d = 5; d * d <= n; d += 6) if (n % d == 0 || n % (d + 2) == 0) return 0
            return 1
        }
        BEGIN {
            size = last - first + 1
            end = first + int(size * (part + 1) / parts)
            for (n = first + int(size * part / parts); n < end; n++) found += is_prime(n)
            print found + 0
        }'
}

part=0
running=
while [ "$part" -lt "$parts" ]; do
    count "$part" > "part-$part" &
    running="$running $!"
    part=$((part + 1))
done
for process in $running; do wait "$process"; done
total=$(cat part-* | awk '{ sum += $1 } END { print sum }')
rm -f part-*
echo "from $first to $last:"
echo "$total primes"
