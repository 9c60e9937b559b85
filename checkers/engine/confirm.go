package main

import (
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// Porcupine's opinion of a counterexample: the relaxed part of a history, from an initial state or from any.
//
// Pending operations are what makes that hard: each of a hundred may come at any time or never. So those that
// were pending before the part begins are at first taken as *ample*: any of them at any time and as often as
// one likes. The state is then the set of values that can be there. That relaxes further, so a
// violation of it is one; where it has an order, each pending operation is taken for what it is, once.

// mostAmple is how many values a part with ample operations may have: one bit each, and one for all others.
const mostAmple = 62

// confirmed asks Porcupine about part of a history. It may disagree, which is an error of one of the
// engines, or not know. ample tells which pending items were there before the part begins.
func (j *job) confirmed(items []item, initial int32, ample func(item) bool, deadline time.Time) porcupine.CheckResult {
	var spare, rest []item
	for _, it := range items {
		if it.pending() && (it.kind == write || it.kind == cas) && ample(it) {
			spare = append(spare, it)
		} else {
			rest = append(rest, it)
		}
	}
	if len(spare) > 2 {
		if s := newValueSets(items, spare); s != nil && s.search(j, rest, initial, deadline) == porcupine.Illegal {
			return porcupine.Illegal
		}
	}
	from := []int32{initial}
	if initial == anyState && j.machine != nil {
		from = j.machine.anyStates()
	} else if initial == anyState {
		for _, it := range items {
			if it.kind != write && !slices.Contains(from, it.want) {
				from = append(from, it.want)
			}
		}
	}
	for _, state := range from {
		if result := j.orderly(items, state, deadline); result != porcupine.Illegal {
			return result
		}
	}
	return porcupine.Illegal
}

// orderlyState is a state, how many forced operations have been, and how many pending ones of each class.
type orderlyState struct {
	value  any
	forced int
	used   string
}

// orderly is search for few forced operations among many pending ones.
func (j *job) orderly(items []item, initial int32, deadline time.Time) porcupine.CheckResult {
	type deed struct {
		kind       kind
		want, next int32
	}
	class := map[deed]int{}
	ofItem, turn := make([]int, len(items)), make([]byte, len(items))
	byCall(items)
	var count []byte
	forced := 0
	for n, it := range items {
		if !it.pending() {
			forced++
			continue
		}
		d := deed{it.kind, it.want, it.next}
		c, known := class[d]
		if !known {
			c = len(count)
			class[d] = c
			count = append(count, 0)
		}
		if count[c] == math.MaxUint8 {
			return j.search(items, initial, deadline)
		}
		ofItem[n], turn[n] = c, count[c]
		count[c]++
	}
	apply := j.advance()
	start := orderlyState{initial, 0, string(make([]byte, len(count)))}
	result, _ := j.run(items, start, deadline, false, func(state any, st *step) (bool, any) {
		s := state.(orderlyState)
		if !st.pending {
			ok, value := apply(s.value, st)
			return ok, orderlyState{value, s.forced + 1, s.used}
		}
		if s.forced == forced {
			return true, s
		}
		c := ofItem[st.place]
		if s.used[c] != turn[st.place] {
			return false, s
		}
		really := *st
		really.pending = false
		ok, value := apply(s.value, &really)
		if !ok {
			return false, s
		}
		used := []byte(s.used)
		used[c]++
		return true, orderlyState{value, s.forced, string(used)}
	})
	return result
}

// valueSets are sets of the values that may be there, closed under what the ample operations can do.
type valueSets struct {
	bit   map[int32]uint64
	other uint64 // any value that no item names
	puts  uint64 // what ample writes put there
	swaps [][2]uint64
}

// newValueSets is nil where there are more values than bits.
func newValueSets(items, spare []item) *valueSets {
	s := &valueSets{bit: map[int32]uint64{}}
	number := func(v int32) {
		if _, known := s.bit[v]; !known && len(s.bit) <= mostAmple {
			s.bit[v] = 1 << len(s.bit)
		}
	}
	for _, it := range items {
		number(it.want)
		number(it.next)
	}
	if len(s.bit) > mostAmple {
		return nil
	}
	s.other = 1 << len(s.bit)
	for _, it := range spare {
		if it.kind == write {
			s.puts |= s.bit[it.next]
		} else {
			s.swaps = append(s.swaps, [2]uint64{s.bit[it.want], s.bit[it.next]})
		}
	}
	return s
}

func (s *valueSets) closed(set uint64) uint64 {
	if set == 0 {
		return 0
	}
	set |= s.puts
	for {
		before := set
		for _, swap := range s.swaps {
			if set&swap[0] != 0 {
				set |= swap[1]
			}
		}
		if set == before {
			return set
		}
	}
}

// step is what may be there after a step, from a set of what may be there before it; 0 for nothing.
func (s *valueSets) step(set uint64, st *step) uint64 {
	want, next := s.bit[st.want.(int32)], s.bit[st.next.(int32)]
	switch st.kind {
	case read:
		return s.closed(set & want)
	case write:
		return s.closed(next)
	case cas:
		if set&want != 0 {
			return s.closed(next)
		} else if st.pending {
			return set
		}
		return 0
	default:
		return s.closed(set &^ want)
	}
}

// search decides the items that are not ample, from an initial state.
func (s *valueSets) search(j *job, items []item, initial int32, deadline time.Time) porcupine.CheckResult {
	first, known := s.bit[initial]
	if initial == anyState {
		first, known = s.other<<1-1, true
	}
	if !known {
		first = s.other
	}
	start := s.closed(first)
	result, _ := j.run(items, start, deadline, false, func(state any, st *step) (bool, any) {
		set := s.step(state.(uint64), st)
		return set != 0, set
	})
	return result
}
