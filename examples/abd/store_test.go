package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func record(count uint64, value string) Record {
	return Record{Key: "k", Stamp: Stamp{Count: count, Nonce: "a"}, Value: json.RawMessage(value)}
}

func opened(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.file.Close() })
	return s
}

func holds(t *testing.T, s *Store, want string) {
	t.Helper()
	if got, err := s.get("k"); err != nil || string(got.Value) != want {
		t.Fatalf("k holds %s (%v), expected %s", got.Value, err, want)
	}
}

func TestTheNewestRecordStaysAndSurvives(t *testing.T) {
	dir := t.TempDir()
	s := opened(t, dir)
	holds(t, s, "null")
	for _, r := range []Record{record(2, "20"), record(1, "10"), record(3, "30"), record(2, "21")} {
		if err := s.put(r); err != nil {
			t.Fatal(err)
		}
	}
	holds(t, s, "30")
	holds(t, opened(t, dir), "30")
}

func TestATornEndIsCutOff(t *testing.T) {
	dir := t.TempDir()
	s := opened(t, dir)
	s.put(record(1, "10"))
	s.put(record(2, "20"))
	path := filepath.Join(dir, "registers.log")
	info, _ := os.Stat(path)
	os.Truncate(path, info.Size()-3)
	again := opened(t, dir)
	holds(t, again, "10")
	again.put(record(3, "30"))
	holds(t, opened(t, dir), "30")
}

func TestStampsOfDifferentWritersDiffer(t *testing.T) {
	a, b := Stamp{Count: 1, Nonce: "a"}, Stamp{Count: 1, Nonce: "b"}
	if !a.before(b) || b.before(a) || a.before(a) {
		t.Fatal("stamps with the same count must be ordered by their nonces")
	}
}
