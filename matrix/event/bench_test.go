package event_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"strings"
	"testing"

	"stoa/matrix/event"
)

// The benchmarks stand beside their floors: the hashes and the one signature that the protocol demands, of messages of the
// same lengths, and nothing else. The goal is ≤ 1.3 × for Build and ≤ 1.2 × for Receive, ≤ 12 allocations each.

func BenchmarkBuild(b *testing.B) {
	f := newFixture(b, "11")
	draft := f.message("hello " + strings.Repeat("world ", 30))
	pdu := f.build(draft)
	content, reference := f.hashedLengths(pdu)

	b.Run("floor", func(b *testing.B) {
		b.ReportAllocs()
		hashed, signed := make([]byte, content), make([]byte, reference)
		for b.Loop() {
			sha256.Sum256(hashed)
			sha256.Sum256(signed)
			f.signer.Sign(signed)
		}
	})
	b.Run("event", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := event.Build(f.rules, draft, f.signer); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkReceive(b *testing.B) {
	f := newFixture(b, "11")
	pdu := f.build(f.message("hello " + strings.Repeat("world ", 30)))
	content, reference := f.hashedLengths(pdu)
	message := make([]byte, reference)
	signature := f.signer.Sign(message)
	public := f.signer.Key().Public()

	b.Run("floor", func(b *testing.B) {
		b.ReportAllocs()
		hashed := make([]byte, content)
		for b.Loop() {
			sha256.Sum256(hashed)
			sha256.Sum256(message)
			if !ed25519.Verify(public, message, signature) {
				b.Fatal("the floor's signature does not fit")
			}
		}
	})
	b.Run("event", func(b *testing.B) {
		b.ReportAllocs()
		raw := append(pdu.Bytes()[:len(pdu.Bytes())-1:len(pdu.Bytes())-1], `,"unsigned":{"age":12}}`...)
		for b.Loop() {
			p, err := event.Parse(f.rules, raw)
			if err != nil {
				b.Fatal(err)
			}
			if err := event.Verify(p, f); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	f := newFixture(b, "11")
	pdu := f.build(f.message("hello " + strings.Repeat("world ", 30)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := event.Load(f.rules, pdu.EventID(), pdu.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendClient(b *testing.B) {
	f := newFixture(b, "11")
	pdu := f.build(f.message("hello " + strings.Repeat("world ", 30)))
	b.ReportAllocs()
	var buffer []byte
	for b.Loop() {
		buffer = event.AppendClient(buffer[:0], pdu)
	}
}

// TestAllocations does not run in parallel, because allocations of others would count.
func TestAllocations(t *testing.T) {
	const limit = 12
	f := newFixture(t, "12")
	draft := f.message("hello")
	raw := f.build(draft).Bytes()
	if got := testing.AllocsPerRun(200, func() { f.build(draft) }); got > limit {
		t.Errorf("building takes %v allocations", got)
	}
	if got := testing.AllocsPerRun(200, func() {
		p, err := event.Parse(f.rules, raw)
		if err != nil || event.Verify(p, f) != nil {
			t.Fatal("the event is not received")
		}
	}); got > limit {
		t.Errorf("receiving takes %v allocations", got)
	}
}
