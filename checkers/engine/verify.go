package main

import "fmt"

// The verifier. A valid verdict stands only if the order found passes here. It shares nothing with
// the engines, not even the normalised operations: it reads the history's own, plays them in the
// order given on an object of its own, and compares what each answered.

// verify returns what is wrong with an order of a key's operations, or nil.
func verify(h *history, m model, ops, order []int32) error {
	mismatch, hasMismatch := h.ids[`"mismatch"`]
	at := make(map[int32]struct{}, 0)
	var seen []bool
	first, last := ops[0], ops[len(ops)-1]
	if int(last-first) < 4*len(ops) { // one key, or nearly: a list is faster than a map
		seen = make([]bool, last-first+1)
	} else {
		at = make(map[int32]struct{}, len(order))
	}
	object := newObject(m)
	latest := int32(0) // the last call so far; an operation that returned before it stands too late
	for _, n := range order {
		if n < first || n > last || h.ops[n].key != h.ops[first].key {
			return fmt.Errorf("operation %d is not of this key", n)
		}
		if seen != nil && seen[n-first] {
			return fmt.Errorf("operation %d stands twice", n)
		} else if seen != nil {
			seen[n-first] = true
		} else if _, twice := at[n]; twice {
			return fmt.Errorf("operation %d stands twice", n)
		} else {
			at[n] = struct{}{}
		}
		o := &h.ops[n]
		latest = max(latest, o.call)
		if (o.typ == typOk || o.typ == typFail) && o.ret < latest {
			return fmt.Errorf("operation %d returned before one that stands ahead of it was called", n)
		}
		failed := o.typ == typFail
		if failed && (o.f != fCas && o.f != fTxn || !hasMismatch || o.err != mismatch) {
			return fmt.Errorf("operation %d failed and stands in the order", n)
		}
		fits, err := object.apply(h, o, failed)
		if err != nil {
			return fmt.Errorf("operation %d: %w", n, err)
		}
		if !fits {
			return fmt.Errorf("operation %d did not meet what it says", n)
		}
	}
	for _, n := range ops {
		o := &h.ops[n]
		_, in := at[n]
		if seen != nil {
			in = seen[n-first]
		}
		needed := o.typ == typOk || o.typ == typFail && (o.f == fCas || o.f == fTxn) && hasMismatch && o.err == mismatch
		if needed && !in {
			return fmt.Errorf("operation %d is missing", n)
		}
	}
	return nil
}
