// Package stablehash is the hash by which instances deal out work: the home of a room, the shard of a job.
//
// It owns two functions and no state. It is no defence against chosen keys.
//
// The invariant that matters: all processes of all releases compute the same, since numbers of shards are in the
// database and instances of two releases run side by side. So nothing here changes, ever.
package stablehash

// Start is what the first text of a key is added to.
const Start uint64 = 14695981039346656037

const prime = 1099511628211

// Add adds a text to a hash (FNV-1a with 64 bits).
func Add(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * prime
	}
	return h
}

// Mix spreads a number over all 64 bits (the finalizer of splitmix64).
func Mix(h uint64) uint64 {
	h += 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
