package reader

import (
	"stoa/internal/stablehash"
	"stoa/internal/store"
)

// The numbers of shards are stored in the database, so this can never change, nor can readerdb.JobShard:
//
//	shard of a room or user = mix(number * 2 + (1 for a user)) mod 64
//
// fnv and mix are those of package stablehash.

// ShardOf assigns a row of the stream to one of [Shards] shards by its room or user.
func ShardOf(row store.StreamRow) int {
	key := uint64(row.Owner) * 2
	if row.OwnerKind == store.OwnerUser {
		key++
	}
	return int(stablehash.Mix(key) % Shards)
}

// ShardOfText assigns a text, such as a destination, to one of [Shards] shards.
func ShardOfText(text string) int {
	return int(stablehash.Mix(stablehash.Add(stablehash.Start, text)) % Shards)
}
