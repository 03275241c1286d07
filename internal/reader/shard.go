package reader

import "stoa/internal/store"

// The numbers of shards are stored in the database, so this can never change:
//
//	shard of a room or user = mix(number * 2 + (1 for a user)) mod 64
//	shard of a job          = mix(fnv(kind, 0, key)) mod 64
//
// fnv is FNV-1a with 64 bits, mix the finalizer of splitmix64.

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func fnv(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return h
}

func mix(h uint64) uint64 {
	h += 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// ShardOf assigns a row of the stream to one of [Shards] shards by its room or user.
func ShardOf(row store.StreamRow) int {
	key := uint64(row.Owner) * 2
	if row.OwnerKind == store.OwnerUser {
		key++
	}
	return int(mix(key) % Shards)
}

// ShardOfText assigns a text, such as a destination, to one of [Shards] shards.
func ShardOfText(text string) int { return int(mix(fnv(fnvOffset, text)) % Shards) }

// shardOfJob assigns a job to one of [Shards] shards.
func shardOfJob(kind, key string) int { return ShardOfText(kind + "\x00" + key) }
