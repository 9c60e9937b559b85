package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Stamp orders the values of a register. Nonce tells writes apart that a node began before and after a crash.
type Stamp struct {
	Count uint64 `json:"count"`
	Nonce string `json:"nonce"`
}

func (s Stamp) before(o Stamp) bool {
	return s.Count < o.Count || s.Count == o.Count && s.Nonce < o.Nonce
}

// Record is what a replica holds of one register.
type Record struct {
	Key   string          `json:"key"`
	Stamp Stamp           `json:"stamp"`
	Value json.RawMessage `json:"value"`
}

// Store holds the newest record of each register, in memory and in an append-only log. One sync serves all
// that was appended before it.
type Store struct {
	mu      sync.Mutex // guards what follows
	records map[string]Record
	file    *os.File
	written int64 // appends so far

	sync   sync.Mutex // held by whoever syncs
	synced int64      // appends that are on disk
}

// openStore reads the log that is in dir, or begins one. A torn end is cut off: it was never acknowledged.
func openStore(dir string) (*Store, error) {
	path := filepath.Join(dir, "registers.log")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	s := &Store{records: map[string]Record{}, file: file}
	good, reader := int64(0), bufio.NewReader(file)
	for {
		line, err := reader.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		sum, body, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		var r Record
		if sum != checksum(body) || json.Unmarshal([]byte(body), &r) != nil {
			break
		}
		if held, there := s.records[r.Key]; !there || held.Stamp.before(r.Stamp) {
			s.records[r.Key] = r
		}
		good += int64(len(line))
	}
	if err := file.Truncate(good); err != nil {
		return nil, err
	}
	if _, err := file.Seek(good, io.SeekStart); err != nil {
		return nil, err
	}
	folder, err := os.Open(dir) // the file's name must survive as well
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	if err := folder.Sync(); err != nil {
		return nil, err
	}
	return s, file.Sync()
}

func checksum(body string) string {
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(body)))
}

func (s *Store) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.records)
}

// get returns what is known of a register, once it is on disk: what was only written could still be lost. A
// register that nobody wrote has the lowest stamp and the value null.
func (s *Store) get(key string) (Record, error) {
	s.mu.Lock()
	r, there := s.records[key]
	at := s.written
	s.mu.Unlock()
	if !there {
		return Record{Key: key, Value: json.RawMessage("null")}, nil
	}
	return r, s.flush(at)
}

// put stores a record unless a newer one is there, and returns when it, or that one, is on disk.
func (s *Store) put(r Record) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if held, there := s.records[r.Key]; !there || held.Stamp.before(r.Stamp) {
		if _, err := fmt.Fprintf(s.file, "%s %s\n", checksum(string(body)), body); err != nil {
			// Part of a line may be there, behind which nothing would be found again.
			log.Fatalf("the log cannot be written: %v", err)
		}
		s.records[r.Key] = r
		s.written++
	}
	at := s.written
	s.mu.Unlock()
	return s.flush(at)
}

// flush returns when the first n appends are on disk.
func (s *Store) flush(n int64) error {
	s.sync.Lock()
	defer s.sync.Unlock()
	if s.synced >= n {
		return nil
	}
	s.mu.Lock()
	upto := s.written
	s.mu.Unlock()
	if err := s.file.Sync(); err != nil {
		log.Fatalf("the log cannot be synced: %v", err) // what became of the pages, nobody knows
	}
	s.synced = upto
	return nil
}
