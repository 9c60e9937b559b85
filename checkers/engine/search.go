package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"
)

// Porcupine on one key: for what no other engine decides, and as the second opinion on each counterexample.

// job is the search on one key; the watchdog may give it up from outside.
type job struct {
	deadline time.Time
	machine  machine // of the key; nil for a register
	initial  int32
	gaveUp   atomic.Pointer[string] // the limit that ended it
	weight   atomic.Int64           // a guess of the bytes that Porcupine keeps for it
}

func (j *job) giveUp(limit string) { j.gaveUp.CompareAndSwap(nil, &limit) }

// search decides items from an initial state: Ok, Illegal, or Unknown at the deadline or on giving up.
func (j *job) search(items []item, initial int32, deadline time.Time) porcupine.CheckResult {
	if j.machine != nil {
		return j.run(items, initial, deadline, advanceMachine(j.machine))
	}
	return j.run(items, initial, deadline, advance)
}

// run is Porcupine on items, with a state and what a step makes of one.
func (j *job) run(
	items []item, initial any, deadline time.Time, apply func(state any, s *step) (bool, any),
) porcupine.CheckResult {
	if len(items) == 0 {
		return porcupine.Ok
	}
	left := time.Until(deadline)
	if left <= 0 || j.gaveUp.Load() != nil {
		return porcupine.Unknown
	}
	// Porcupine keeps a set of n bits for each configuration it has seen.
	const every = 1024
	configuration := int64(every * (len(items)/8 + 96))
	steps := 0
	j.weight.Store(0)
	m := porcupine.Model{
		Init: func() any { return initial },
		StepContext: func(ctx context.Context, state, input, _ any) (bool, any) {
			if steps++; steps%every == 0 {
				j.weight.Add(configuration)
			}
			if j.gaveUp.Load() != nil {
				return false, state // it backtracks out quickly; the answer is thrown away below
			}
			return apply(state, input.(*step))
		},
	}
	result := porcupine.CheckOperationsTimeout(m, porcupineOps(items), left)
	if j.gaveUp.Load() != nil && result == porcupine.Illegal {
		return porcupine.Unknown
	}
	return result
}

// shortest is the last line of the shortest illegal prefix of an illegal history, by bisection; of a
// longer one where time does not allow that.
func (j *job) shortest(items []item, initial int32) int32 {
	deadline := j.shrinkUntil()
	returns := completed(items)
	low, high := 0, len(returns)-1
	for low < high {
		middle := (low + high) / 2
		switch j.search(prefix(items, returns[middle].ret), initial, deadline) {
		case porcupine.Illegal:
			high = middle
		case porcupine.Ok:
			low = middle + 1
		default:
			return returns[high].ret
		}
	}
	return returns[high].ret
}
