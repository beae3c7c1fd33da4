"""The ground floor: vocabulary, artefacts, files, processes."""
