module splitbrain.invalid/abd

go 1.21
