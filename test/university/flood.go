package main

import (
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"
)

// runFlood is the process of those who send as fast as they are answered.
func runFlood(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var spec speakSpec
	if err := json.Unmarshal(raw, &spec); err != nil {
		return err
	}
	if len(spec.Rooms) == 0 || len(spec.Rooms[0].People) < spec.Senders {
		return errors.New("there are too few people in the room")
	}
	room := &spec.Rooms[0]
	begin := time.Unix(0, spec.Start)
	end := begin.Add(time.Duration(spec.Seconds * float64(time.Second)))
	time.Sleep(time.Until(begin))
	var (
		mu     sync.Mutex // guards the two below
		result = speakResult{Acked: map[int]int{}}
		acks   []time.Duration
		g      sync.WaitGroup
	)
	for n := range spec.Senders {
		s := &speaker{address: spec.Addresses[n%len(spec.Addresses)]}
		token := accessToken(room.People[n], 0)
		target := "/_matrix/client/v3/rooms/" + url.PathEscape(room.ID) + "/send/m.room.message/" + strconv.FormatInt(spec.Start, 36) + "." + strconv.Itoa(n) + "."
		g.Go(func() {
			defer s.close()
			for i := 0; time.Now().Before(end); i++ {
				due := time.Now()
				err := s.repeat("PUT", target+strconv.Itoa(i), token, numberedMessage(due.UnixNano(), 0, n, i))
				mu.Lock()
				if err != nil {
					result.Failed++
					result.LastFailure = "message: " + err.Error()
				} else {
					result.Messages[room.Kind]++
					result.Acked[0]++
					acks = append(acks, time.Since(due))
				}
				mu.Unlock()
			}
		})
	}
	g.Wait()
	result.AckP50, result.AckP99 = quantile(acks, 0.5), quantile(acks, 0.99)
	return json.NewEncoder(os.Stdout).Encode(result)
}
