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
	reached  atomic.Int64           // completed operations that the search has found an order for
	gaveUp   atomic.Pointer[string] // the limit that ended it
	weight   atomic.Int64           // a guess of the bytes that Porcupine keeps for it
}

func (j *job) giveUp(limit string) { j.gaveUp.CompareAndSwap(nil, &limit) }

// search decides items from an initial state: Ok, Illegal, or Unknown at the deadline or on giving up.
func (j *job) search(items []item, initial int32, deadline time.Time) porcupine.CheckResult {
	result, _ := j.run(items, initial, deadline, false, j.advance())
	return result
}

// ordered is search with the order of a legal one: places of items, without those that never took effect.
func (j *job) ordered(items []item, initial int32, deadline time.Time) (porcupine.CheckResult, []int32) {
	result, found := j.run(items, initial, deadline, true, j.advance())
	if result != porcupine.Ok {
		return result, nil
	}
	steps, apply := porcupineOps(items), j.advance()
	var state any = initial
	order := make([]int32, 0, len(found))
	for _, n := range found {
		s := steps[n].Input.(*step)
		if s.pending {
			s.pending = false // whether it did anything shows when it has to
			did, after := apply(state, s)
			if !did {
				continue
			}
			state = after
		} else {
			_, state = apply(state, s)
		}
		order = append(order, int32(n))
	}
	return result, order
}

func (j *job) advance() func(state any, s *step) (bool, any) {
	if j.machine != nil {
		return advanceMachine(j.machine)
	}
	return advance
}

// run is Porcupine on items, with a state and what a step makes of one; the order found where that is asked for.
func (j *job) run(
	items []item, initial any, deadline time.Time, order bool, apply func(state any, s *step) (bool, any),
) (porcupine.CheckResult, []int) {
	if len(items) == 0 {
		return porcupine.Ok, nil
	}
	left := time.Until(deadline)
	if left <= 0 || j.gaveUp.Load() != nil {
		return porcupine.Unknown, nil
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
	var result porcupine.CheckResult
	var found []int
	if order {
		var info porcupine.LinearizationInfo
		if result, info = porcupine.CheckOperationsVerbose(m, porcupineOps(items), left); result == porcupine.Ok {
			found = info.PartialLinearizations()[0][0]
		}
	} else {
		result = porcupine.CheckOperationsTimeout(m, porcupineOps(items), left)
	}
	if j.gaveUp.Load() != nil && result == porcupine.Illegal {
		return porcupine.Unknown, nil
	}
	return result, found
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
