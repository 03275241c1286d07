package room

import (
	"errors"
	"fmt"
)

// CheckTotals says what is wrong with the stored totals of two events of a room,
// the former before the latter: counts never go down. It is for
// [doctor.Options].
func CheckTotals(before, after []byte) error {
	earlier, err := ParseTotals(before)
	if err != nil {
		return fmt.Errorf("the earlier: %w", err)
	}
	later, err := ParseTotals(after)
	if err != nil {
		return fmt.Errorf("the later: %w", err)
	}
	if !earlier.All.Minus(later.All).IsZero() || !earlier.Threaded.Minus(later.Threaded).IsZero() {
		return errors.New("a count went down")
	}
	return nil
}
