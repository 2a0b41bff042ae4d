#!/bin/sh
# Chromium without the parts of its own windows that take more CPU time than most pages: the popups of the address bar,
# which are pages themselves, and a process in reserve. Playwright also names features to do without, and Chromium goes
# by the last such list, so this adds to it.
without=WebUIOmniboxPopup,WebUIOmniboxAimPopup,WebUIOmniboxFullPopup,SpareRendererForSitePerProcess,MultipleSpareRPHs
for argument; do
  case $argument in --disable-features=*) argument=$argument,$without ;; esac
  shift
  set -- "$@" "$argument"
done
exec chromium "$@"
